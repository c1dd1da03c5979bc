// Choosing a model or data by name, from what is there.
import { html } from "../lib.js";
import { useData } from "../api.js";
import { t } from "../i18n.js";

export function ModelChoice({ id, label, value, onChange, help }) {
  const gallery = useData("api/gallery");
  const here = useData("api/models").data?.models ?? [];
  const ids = new Set(here.map((model) => model.id));
  const other = (gallery.data?.models ?? []).filter(
    (model) => !ids.has(model.name) && model.trains !== false,
  );
  const known = ids.has(value) || other.some((model) => model.name === value);
  const option = (name) => html`
    <option key=${name} value=${name}>${name}</option>
  `;
  return html`
    <div class="field">
      <label for=${id}>${label}</label>
      <select
        id=${id}
        class="input"
        value=${value}
        onChange=${(event) => onChange(event.target.value)}
      >
        ${
          !known &&
          html`
            <option value=${value}>${value || t("choose")}</option>
          `
        }
        ${
          here.length > 0 &&
          html`
            <optgroup label=${t("models.local")}>${here.map((model) => option(model.id))}</optgroup>
          `
        }
        ${
          other.length > 0 &&
          html`
            <optgroup label=${t("models.gallery")}>
              ${other.map((model) => option(model.name))}
            </optgroup>
          `
        }
      </select>
      ${
        help &&
        html`
          <span class="help">${help}</span>
        `
      }
    </div>
  `;
}

export function FileChoice({ id, label, value, onChange, help, empty }) {
  const { data } = useData("v1/files?limit=100");
  const files = (data?.data ?? []).filter((file) => file.purpose !== "fine-tune-results");
  const known = !value || files.some((file) => file.id === value);
  return html`
    <div class="field">
      <label for=${id}>${label}</label>
      <select
        id=${id}
        class="input"
        value=${value ?? ""}
        onChange=${(event) => onChange(event.target.value)}
      >
        <option value="">${empty ?? t("choose")}</option>
        ${
          !known &&
          html`
            <option value=${value}>${value}</option>
          `
        }
        ${files.map(
          (file) => html`
            <option key=${file.id} value=${file.id}>${file.filename}</option>
          `,
        )}
      </select>
      ${
        help &&
        html`
          <span class="help">${help}</span>
        `
      }
    </div>
  `;
}
