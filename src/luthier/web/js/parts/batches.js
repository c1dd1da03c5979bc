// The largest batch that fits: peaks by batch size and length; a cell sets both.
import { html, useEffect, useState } from "../lib.js";
import { post } from "../api.js";
import { bytes, duration, number, percent, t } from "../i18n.js";
import { ErrorNote } from "./basic.js";

const LOOKS = { fits: "ok", tight: "warn", no: "bad" };

export function Batches({ settings, set }) {
  const [open, setOpen] = useState(false);
  const [state, setState] = useState({});
  const text = JSON.stringify(settings);
  useEffect(() => {
    if (!open) return undefined;
    const leave = new AbortController();
    const timer = setTimeout(() => {
      post("api/plan/batches", { settings: JSON.parse(text) }, { signal: leave.signal }).then(
        (table) => setState({ table }),
        (error) => error.name !== "AbortError" && setState({ error }),
      );
    }, 400);
    return () => {
      clearTimeout(timer);
      leave.abort();
    };
  }, [open, text]);
  return html`
    <details class="card" onToggle=${(event) => setOpen(event.currentTarget.open)}>
      <summary class="strong">${t("batches.title")}</summary>
      <div class="stack">
        <p class="small muted">${t("batches.lead")}</p>
        <${ErrorNote} error=${state.error} />
        ${
          open &&
          !state.table &&
          !state.error &&
          html`
            <p class="muted small" role="status">${t("plan.working")}</p>
          `
        }
        ${
          state.table &&
          html`
            <${Table} table=${state.table} set=${set} />
          `
        }
      </div>
    </details>
  `;
}

const Table = ({ table, set }) => html`
  <div class="scroll-x" tabindex="0" role="region" aria-label=${t("batches.title")}>
    <table class="batches">
      <caption class="small muted">${t("batches.caption")}</caption>
      <thead>
        <tr>
          <th scope="col">${t("batches.batch")}</th>
          ${table.lengths.map(
            (length) => html`
              <th key=${length} scope="col" class="num">${number(length)}</th>
            `,
          )}
        </tr>
      </thead>
      <tbody>
        ${table.batches.map(
          (size, place) => html`
            <tr key=${size}>
              <th scope="row">${number(size)}</th>
              ${table.cells.map(
                (cells) => html`
                  <td key=${cells[place].seq_length} class="num">
                    <${Cell} cell=${cells[place]} table=${table} set=${set} />
                  </td>
                `,
              )}
            </tr>
          `,
        )}
        <tr class="small muted">
          <th scope="row">${t("batches.epoch")}</th>
          ${table.cells.map(
            (cells, place) => html`
              <td key=${place} class="num small">${duration(cells[0].epoch_s)}</td>
            `,
          )}
        </tr>
        <tr class="small muted">
          <th scope="row">${t("file.rows.cut")}</th>
          ${table.rows_cut.map(
            (share, place) => html`
              <td key=${place} class="num small">${percent(share)}</td>
            `,
          )}
        </tr>
      </tbody>
    </table>
  </div>
`;

function Cell({ cell, table, set }) {
  const current = table.chosen[0] === cell.seq_length && table.chosen[1] === cell.batch;
  const said = t("batches.cell", {
    batch: cell.batch,
    length: number(cell.seq_length),
    size: bytes(cell.peak_bytes),
    mark: t(`mark.${cell.verdict}`),
  });
  const choose = () =>
    set({ per_device_train_batch_size: cell.batch, seq_length: cell.seq_length });
  return html`
    <button
      type="button"
      class=${`badge cell ${LOOKS[cell.verdict]}`}
      aria-pressed=${current}
      aria-label=${said}
      title=${said}
      onClick=${choose}
    >
      ${bytes(cell.peak_bytes)}
    </button>
  `;
}
