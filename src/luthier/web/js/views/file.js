// One file: what the doctor says, how long its rows are, what a model will see of them.
import { html, useEffect, useState } from "../lib.js";
import { post, useData } from "../api.js";
import { bytes, language, number, percent, t } from "../i18n.js";
import { go, link, replace } from "../route.js";
import { ErrorNote, LinkButton, PageHead, toast } from "../parts/basic.js";
import { Findings, Histogram } from "../parts/report.js";
import { ModelChoice } from "../parts/choose.js";
import { Columns } from "../parts/columns.js";
import { Rows } from "../parts/rows.js";

export default function File({ route }) {
  const id = route.parts[1];
  const [model, setModel] = useState(route.query.model ?? "starter");
  const file = useData(`v1/files/${encodeURIComponent(id)}`);
  const [report, setReport] = useState(null);
  const [error, setError] = useState(null);
  const [turn, setTurn] = useState(0);
  const raw = useData(`api/files/${encodeURIComponent(id)}/raw?count=3`);
  useEffect(() => {
    const leave = new AbortController();
    setReport(null);
    setError(null);
    post(
      `api/files/${encodeURIComponent(id)}/check`,
      { model, lang: language() },
      { signal: leave.signal },
    ).then(setReport, (failed) => failed.name !== "AbortError" && setError(failed));
    return () => leave.abort();
  }, [id, model, turn]);
  const choose = (name) => {
    setModel(name);
    replace("file", id, { model: name });
  };
  const fix = async () => {
    try {
      const { file: made, done } = await post(`api/files/${encodeURIComponent(id)}/fix`);
      toast(
        [
          t("file.fixed"),
          ...done.map(
            ({ code, count }) => `${t(`finding.${code}`)}: ${t("file.count", { count })}`,
          ),
        ].join("\n"),
      );
      go("file", made.id, { model });
    } catch (failed) {
      setError(failed);
    }
  };
  return html`<${PageHead} title=${file.data?.filename ?? t("data.file")} lead=${
    file.data ? `${bytes(file.data.bytes)} · ${id}` : id
  }>
      <${LinkButton} href="v1/files/${encodeURIComponent(id)}/content" download icon="down">${t("download")}
        </${LinkButton}>
      <${LinkButton} kind="main-action" href=${link("new", { data: id, model })}>${t("data.use")}
        </${LinkButton}>
    </${PageHead}>
    <div class="stack wide">
      <${ErrorNote} error=${file.error} />
      <div class="file-model"><${ModelChoice} id="file-model" label=${t("file.as")} value=${model}
        onChange=${choose} /></div>
      <${ErrorNote} error=${error} />
      ${
        raw.data &&
        html`
          <${Reading} raw=${raw.data}>
            <${Columns}
              key=${JSON.stringify(raw.data.kept)}
              id=${id}
              raw=${raw.data}
              model=${model}
              onKept=${() => {
                raw.again();
                setTurn(turn + 1);
              }}
            />
          </${Reading}>
        `
      }
      ${
        !report &&
        !error &&
        html`
          <div class="card"><p role="status" class="muted">${t("file.checking")}</p></div>
        `
      }
      ${
        report &&
        html`
          <${Summary} report=${report} />
          <div class="grid two">
            <${Findings} findings=${report.findings} onFix=${fix} />
            ${
              report.histogram?.length > 0 &&
              html`
                <${Histogram} report=${report} />
              `
            }
          </div>
        `
      }
      ${
        (raw.data?.known || raw.data?.kept) &&
        html`
          <${Rows} key=${turn} id=${id} model=${model} />
        `
      }
    </div>`;
}

/** The menus stand open where nobody knows the columns; elsewhere they are one click away. */
const Reading = ({ raw, children }) =>
  raw.known && !raw.kept
    ? html`
        <details class="card">
          <summary>${t("columns.title")}</summary>
          ${children}
        </details>
      `
    : children;

function Summary({ report }) {
  const formats = report.files.flatMap((file) => Object.entries(file.formats ?? {}));
  const total = report.tokens?.total ?? {};
  return html`
    <section class="card" aria-label=${t("file.summary")}>
      <dl class="facts">
        <div>
          <dt>${t("file.format")}</dt>
          <dd>${[...new Set(formats.map(([name]) => name))].join(", ") || "–"}</dd>
        </div>
        <div>
          <dt>${t("file.rows")}</dt>
          <dd>${number(report.rows)}</dd>
        </div>
        <div>
          <dt>${t("file.used")}</dt>
          <dd>${number(report.used)}</dd>
        </div>
        ${
          total.p50 !== undefined &&
          html`
            <div>
              <dt>${t("file.median")}</dt>
              <dd>${t("tokens", { count: number(total.p50, { maximumFractionDigits: 0 }) })}</dd>
            </div>
            <div>
              <dt>${t("file.longest")}</dt>
              <dd>${t("tokens", { count: number(total.max, { maximumFractionDigits: 0 }) })}</dd>
            </div>
          `
        }
        ${
          report.padding_ratio !== undefined &&
          report.padding_ratio !== null &&
          html`
            <div>
              <dt>${t("file.padding")}</dt>
              <dd>${percent(report.padding_ratio)}</dd>
            </div>
          `
        }
        ${
          report.sharing_ratio !== undefined &&
          report.sharing_ratio !== null &&
          html`
            <div>
              <dt>${t("file.sharing")}</dt>
              <dd>${percent(report.sharing_ratio)}</dd>
            </div>
          `
        }
      </dl>
    </section>
  `;
}
