import js from "@eslint/js";
import globals from "globals";

export default [
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2023, sourceType: "module", globals: globals.browser },
    rules: {
      "no-control-regex": "off", // terminal colours are dropped by their escape
      "no-unused-vars": ["error", { varsIgnorePattern: "^_" }],
      eqeqeq: "error",
      "no-var": "error",
      "prefer-const": "error",
      "max-len": ["error", { code: 110 }],
      "max-lines": ["error", 400],
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "text of others is only ever text" },
        { property: "outerHTML", message: "text of others is only ever text" },
      ],
    },
  },
];
