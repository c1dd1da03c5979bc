// The doctor's report: findings by weight, and how long the rows are.
import { html } from "../lib.js";
import { number, percent, t } from "../i18n.js";
import { Button } from "./basic.js";
import { Icon } from "./icons.js";

const ORDER = { error: 0, warning: 1, note: 2 };
const LOOK = { error: ["bad", "cross"], warning: ["warn", "warn"], note: ["info", "info"] };

/** Rules that a repaired copy acts on: offered where it would change anything. */
const FIXED = new Set([
  "boundaries-doubled",
  "chosen-equals-rejected",
  "control-characters",
  "duplicate-rows",
  "empty-answer",
  "encoding-not-utf8",
  "ends-with-user",
  "file-unreadable",
  "invisible-characters",
  "no-answer",
  "tool-schema-types",
]);

export function Findings({ findings, onFix }) {
  const sorted = [...findings].sort((one, other) => ORDER[one.severity] - ORDER[other.severity]);
  const broken = sorted.some((finding) => FIXED.has(finding.code));
  return html`
    <section class="card stack">
      <div class="card-head">
        <h2>${t("file.findings")}</h2>
        ${broken && html`<${Button} kind="main-action small" onClick=${onFix}>${t("file.fix")}</${Button}>`}
      </div>
      ${
        !sorted.length &&
        html`
          <p class="row">
            <span class="badge ok">
              <${Icon} name="check" small />
              ${t("file.healthy")}
            </span>
          </p>
        `
      }
      <ul class="findings">
        ${sorted.map(
          (finding) => html`
            <${Finding} key=${finding.code} finding=${finding} />
          `,
        )}
      </ul>
    </section>
  `;
}

function Finding({ finding }) {
  const [look, icon] = LOOK[finding.severity] ?? LOOK.note;
  return html`
    <li class="stack tight">
      <div class="row">
        <span class=${`badge ${look}`}>
          <${Icon} name=${icon} small />
          ${t(`severity.${finding.severity}`)}
        </span>
        <span class="small muted">
          ${finding.code} · ${t("file.count", { count: finding.count })}
        </span>
      </div>
      <div class="strong">
        ${finding.title}${
          finding.detail &&
          html`
            <span lang="en">: ${finding.detail}</span>
          `
        }
      </div>
      ${
        finding.why &&
        html`
          <div class="small muted" lang=${finding.lang?.why ?? "en"}>${finding.why}</div>
        `
      }
      ${
        finding.rows?.length > 0 &&
        html`
          <ul class="places">
            ${distinct(finding.rows).map(
              (row, index) => html`
                <li key=${index} class="small mono">${place(row)}</li>
              `,
            )}
          </ul>
        `
      }
      ${
        finding.fix &&
        html`
          <div class="small">
            <span class="muted">${t("file.remedy")}${" "}</span>
            ${
              finding.code === "format-unknown"
                ? html`
                    <a href="#columns" onClick=${toColumns}>${t("columns.remedy")}</a>
                  `
                : html`
                    <span lang=${finding.lang?.fix ?? "en"}>${finding.fix}</span>
                  `
            }
          </div>
        `
      }
    </li>
  `;
}

/** The address stays what it is: what stands behind its '#' is the view. */
function toColumns(event) {
  event.preventDefault();
  document.getElementById("columns")?.scrollIntoView({ block: "start" });
  document.getElementById("columns-head")?.focus({ preventScroll: true });
}

/** The first row of each thing that is said: the same five times says no more than once. */
const distinct = (rows) =>
  [...new Map([...rows].reverse().map((row) => [row.says || row.line, row])).values()]
    .reverse()
    .slice(0, 5);

const place = (row) =>
  [row.line > 0 && t("file.line", { line: row.line }), row.says].filter(Boolean).join(": ");

/** Bars of rows by length in tokens, with the same numbers as a table. */
export function Histogram({ report }) {
  const bins = bars(report.histogram ?? []);
  const most = Math.max(1, ...bins.map((bin) => bin.rows));
  const cuts = Object.entries(report.cuts ?? {});
  return html`
    <section class="card stack">
      <h2>${t("file.lengths")}</h2>
      ${
        bins.length > 0 &&
        html`
          <svg
            class="histogram"
            viewBox="0 0 320 120"
            preserveAspectRatio="none"
            role="img"
            aria-label=${t("file.lengths.text", {
              rows: number(report.rows),
              most: label(bins.find((bin) => bin.rows === most) ?? bins[0]),
            })}
          >
            ${bins.map(
              (bin, index) => html`
                <rect
                  key=${index}
                  x=${(index * 320) / bins.length + 0.5}
                  width=${Math.max(0.5, 320 / bins.length - 1)}
                  y=${118 - (bin.rows / most) * 114}
                  height=${(bin.rows / most) * 114 + (bin.rows ? 2 : 0)}
                >
                  <title>${label(bin)}: ${number(bin.rows)}</title>
                </rect>
              `,
            )}
          </svg>
          <div class="row between small muted">
            <span>${number(bins[0].from)}</span>
            <span>${t("file.axis")}</span>
            <span>${number(bins.at(-1).to)}</span>
          </div>
        `
      }
      <details>
        <summary>${t("chart.table")}</summary>
        <div class="scroll-x">
          <table>
            <thead>
              <tr>
                <th scope="col">${t("file.axis")}</th>
                <th scope="col" class="num">${t("file.rows")}</th>
              </tr>
            </thead>
            <tbody>
              ${bins
                .filter((bin) => bin.rows)
                .map(
                  (bin, index) => html`
                    <tr key=${index}>
                      <th scope="row">${label(bin)}</th>
                      <td class="num">${number(bin.rows)}</td>
                    </tr>
                  `,
                )}
            </tbody>
          </table>
        </div>
      </details>
      ${
        cuts.length > 0 &&
        html`
          <table>
            <caption class="small muted">${t("file.cuts")}</caption>
            <thead>
              <tr>
                <th scope="col"><code>seq_length</code></th>
                <th scope="col" class="num">${t("file.rows.cut")}</th>
                <th scope="col" class="num">${t("file.tokens.cut")}</th>
              </tr>
            </thead>
            <tbody>
              ${cuts.map(
                ([length, cut]) => html`
                  <tr key=${length}>
                    <th scope="row">${number(Number(length))}</th>
                    <td class="num">${number(cut.rows)}</td>
                    <td class="num">${percent(cut.share ?? 0, 1)}</td>
                  </tr>
                `,
              )}
            </tbody>
          </table>
        `
      }
    </section>
  `;
}

const label = (bin) => `${number(bin.from)}–${number(bin.to)}`;

/** Bins are told by their upper end; each begins where the one before ends. */
const bars = (histogram) =>
  histogram.map((bin, index) => ({
    from: index ? histogram[index - 1].up_to : 0,
    to: bin.up_to,
    rows: bin.rows,
  }));
