// How the columns of a file are read: chosen from menus, with what the model will then see.
import { html, useEffect, useState } from "../lib.js";
import { put } from "../api.js";
import { t } from "../i18n.js";
import { Button, ErrorNote, toast } from "./basic.js";
import { KINDS, NEEDED, columnsOf, formOf, templateOf } from "./columns_form.js";
import { Rows } from "./rows.js";

export function Columns({ id, raw, model, onKept }) {
  const [form, setForm] = useState(() => formOf(raw.kept ?? raw.guess, raw.parts));
  const [error, setError] = useState(null);
  const change = (part) => setForm({ ...form, ...part });
  const columns = columnsOf(form);
  const text = useSettled(columns ? JSON.stringify(columns) : "");
  const keep = async (wanted) => {
    try {
      await put(`api/files/${encodeURIComponent(id)}/columns`, { columns: wanted });
      toast(t(wanted ? "columns.kept" : "columns.forgotten"));
      onKept();
    } catch (failed) {
      setError(failed);
    }
  };
  return html`<section class="card stack" aria-labelledby="columns-head" id="columns">
    <h2 id="columns-head" tabindex="-1">${t("columns.title")}</h2>
    <p class="small muted">${t(raw.known ? "columns.lead.known" : "columns.lead")}</p>
    <${RawRows} raw=${raw} />
    <div class="row" role="group" aria-label=${t("columns.kind")}>
      ${Object.keys(KINDS).map(
        (kind) => html`<${Button} key=${kind} kind="small" aria-pressed=${form.kind === kind}
          onClick=${() => change({ kind })}>${t(`columns.kind.${kind}`)}</${Button}>`,
      )}
    </div>
    <div class="form-grid">
      ${KINDS[form.kind]
        .filter((part) => !(form.several && ["question", "context"].includes(part)))
        .map(
          (part) => html`
            <${Menu}
              key=${part}
              part=${part}
              names=${raw.columns}
              value=${form[part] ?? ""}
              needed=${NEEDED[form.kind].includes(part)}
              guessed=${!raw.kept && raw.parts[part] === form[part]}
              onChange=${(name) => change({ [part]: name })}
            />
          `,
        )}
    </div>
    ${
      form.kind !== "text" &&
      html`
        <${Template} form=${form} raw=${raw} change=${change} />
      `
    }
    <${ErrorNote} error=${error} />
    <div class="row">
      <${Button} kind="main-action" disabled=${!columns} onClick=${() => keep(columns)}>
        ${t("columns.keep")}</${Button}>
      ${
        raw.kept &&
        html`<${Button} kind="plain" onClick=${() => keep(null)}>${t("columns.forget")}</${Button}>`
      }
      ${
        !columns &&
        html`
          <span class="small muted">${t("columns.choose")}</span>
        `
      }
    </div>
    ${
      text &&
      html`
        <${Rows}
          id=${id}
          model=${model}
          columns=${text}
          objective=${form.kind === "preferences" ? "dpo" : "sft"}
          title=${t("columns.preview")}
          count=${3}
        />
      `
    }
  </section>`;
}

/** A value half a second after it was last changed. */
function useSettled(value) {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), 500);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}

function Menu({ part, names, value, needed, guessed, onChange }) {
  const id = `column-${part}`;
  return html`
    <div class="field">
      <label for=${id}>${t(`columns.${part}`)}</label>
      <select
        id=${id}
        class="input"
        value=${value}
        onChange=${(event) => onChange(event.target.value)}
      >
        <option value="">${t(needed ? "choose" : "columns.none")}</option>
        ${names.map(
          (name) => html`
            <option key=${name} value=${name}>${name}</option>
          `,
        )}
      </select>
      ${
        guessed &&
        value &&
        html`
          <span class="help">${t("columns.guessed")}</span>
        `
      }
    </div>
  `;
}

function Template({ form, raw, change }) {
  const toggle = (event) =>
    change({
      several: event.target.checked,
      template: form.template || templateOf(form.question ?? raw.parts.question, raw.choices),
    });
  return html`
    <div class="stack tight">
      <label class="check">
        <input type="checkbox" checked=${form.several} onChange=${toggle} />
        ${t("columns.several")}
      </label>
      ${
        form.several &&
        html`
          <div class="field">
            <label for="column-template">${t("columns.template")}</label>
            <textarea
              id="column-template"
              class="input mono"
              rows="5"
              spellcheck=${false}
              aria-describedby="column-template-help"
              onInput=${(event) => change({ template: event.target.value })}
              value=${form.template}
            ></textarea>
            <span class="help" id="column-template-help">${t("columns.template.help")}</span>
            <div class="row" role="group" aria-label=${t("columns.insert")}>
              ${raw.columns.map(
                (name) =>
                  html`<${Button} key=${name} kind="small" onClick=${() =>
                    change({ template: `${form.template}{${name}}` })}>${`{${name}}`}</${Button}>`,
              )}
            </div>
          </div>
        `
      }
    </div>
  `;
}

const RawRows = ({ raw }) => html`
  <div class="scroll-x" tabindex="0" role="region" aria-label=${t("columns.raw")}>
    <table class="raw">
      <caption class="small muted">${t("columns.raw")}</caption>
      <thead>
        <tr>
          ${raw.columns.map(
            (name) => html`
              <th key=${name} scope="col">${name}</th>
            `,
          )}
        </tr>
      </thead>
      <tbody>
        ${raw.rows.map(
          (row) => html`
            <tr key=${row.line}>
              ${raw.columns.map(
                (name) => html`
                  <td key=${name}>${cell(row.fields[name])}</td>
                `,
              )}
            </tr>
          `,
        )}
      </tbody>
    </table>
  </div>
`;

const LONGEST = 160;

function cell(value) {
  if (value === null || value === undefined) return "–";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}
