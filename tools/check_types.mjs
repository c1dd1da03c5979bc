// The page's scripts, checked as TypeScript checks JavaScript; vendored files are taken as they are.
import ts from "typescript";

const { config } = ts.readConfigFile("jsconfig.json", ts.sys.readFile);
const { options, fileNames } = ts.parseJsonConfigFileContent(config, ts.sys, ".");
const found = ts
  .getPreEmitDiagnostics(ts.createProgram(fileNames, options))
  .filter((one) => !one.file?.fileName.includes("/web/vendor/"));
const host = {
  getCanonicalFileName: (name) => name,
  getCurrentDirectory: ts.sys.getCurrentDirectory,
  getNewLine: () => "\n",
};
process.stdout.write(ts.formatDiagnostics(found, host));
process.exit(found.length ? 1 : 0);
