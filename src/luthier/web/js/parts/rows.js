// Rows as the model gets them: what it learns is in colour and underlined.
import { html, useEffect, useState } from "../lib.js";
import { get, query } from "../api.js";
import { number, t } from "../i18n.js";
import { Button, ErrorNote, Loading } from "./basic.js";

const PAGE = 10;

export function Rows({ id, model, columns = "", objective, title, count = PAGE }) {
  const [start, setStart] = useState(1);
  const [state, setState] = useState({});
  useEffect(() => setStart(1), [id, model, columns]);
  useEffect(() => {
    const leave = new AbortController();
    setState({});
    const asked = { model, from: start, count, columns, objective };
    get(query(`api/files/${encodeURIComponent(id)}/rows`, asked), {
      signal: leave.signal,
    }).then(
      (data) => setState({ rows: data.rows }),
      (error) => error.name !== "AbortError" && setState({ error }),
    );
    return () => leave.abort();
  }, [id, model, start, columns, objective, count]);
  return html`<section class="card stack">
    <div class="card-head"><h2>${title ?? t("rows.title")}</h2><${Legend} /></div>
    <p class="small muted">${t("rows.lead")}</p>
    <${ErrorNote} error=${state.error} />
    ${
      !state.rows &&
      !state.error &&
      html`
        <${Loading} />
      `
    }
    <div class="stack">${(state.rows ?? []).map(
      (row, index) => html`
        <${Row} key=${`${start}-${index}`} row=${row} />
      `,
    )}</div>
    ${
      state.rows &&
      !state.rows.length &&
      html`
        <p class="muted">${t("rows.end")}</p>
      `
    }
    <div class="row">
      <${Button} kind="small" disabled=${start === 1} onClick=${() => setStart(Math.max(1, start - count))}>
        ${t("previous")}</${Button}>
      <span class="small muted" role="status">
        ${t("rows.range", { from: start, to: start + (state.rows?.length || count) - 1 })}</span>
      <${Button} kind="small" disabled=${!state.rows || state.rows.length < count} onClick=${() =>
        setStart(start + count)}>${t("next")}</${Button}>
    </div>
  </section>`;
}

const Legend = () => html`
  <span class="row small">
    <span class="piece learned">${t("rows.learned")}</span>
    <span class="piece">${t("rows.read")}</span>
    <span class="piece control">${t("rows.control")}</span>
    <span class="piece cut">${t("rows.cut")}</span>
  </span>
`;

function Row({ row }) {
  const total = (row.tokens ?? []).reduce((sum, one) => sum + one, 0);
  const learned = (row.learned ?? []).reduce((sum, one) => sum + one, 0);
  const problem = row.dropped ?? row.bad;
  return html`
    <article class="example">
      <div class="row between small muted">
        <span>${shortened(row.row)}</span>
        <span>${t("rows.tokens", { total: number(total), learned: number(learned) })}</span>
      </div>
      ${
        problem &&
        html`
          <div class="note bad small" lang="en">${problem}</div>
        `
      }
      ${(row.sequences ?? []).map(
        (pieces, index) => html`
          <div class="stack tight" key=${index}>
            ${
              row.sequences.length > 1 &&
              html`
                <span class="small strong">${sequenceName(row, index)}</span>
              `
            }
            <${Pieces} pieces=${pieces} />
          </div>
        `,
      )}
    </article>
  `;
}

const shortened = (name) => String(name ?? "").replace(/^.*\//, "");
const sequenceName = (row, index) =>
  row.names?.length ? t(`rows.${row.names[index]}`) : `${index + 1}`;

const look = (piece) =>
  [
    "piece",
    piece.weight > 0 && "learned",
    piece.kind === "control" && "control",
    piece.cut && "cut",
    piece.shared && "shared",
  ]
    .filter(Boolean)
    .join(" ");

/** Pieces of a text, or the text of each token. */
export const Pieces = ({ pieces }) => html`
  <pre class="pieces" tabindex="0">
${pieces.map((piece, index) =>
      typeof piece === "string"
        ? html`
            <span key=${index} class="piece token">${piece}</span>
          `
        : html`
            <span key=${index} class=${look(piece)}>${piece.text}</span>
          `,
    )}</pre>
`;
