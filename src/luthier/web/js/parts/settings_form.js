// Fields made from the settings as the API tells them: nothing about a setting is written here.
import { html, useState } from "../lib.js";
import { known, t } from "../i18n.js";
import { Prose } from "./basic.js";

export function SettingsForm({ settings, values, set, wrong }) {
  const [search, setSearch] = useState("");
  const wanted = search.toLowerCase();
  const shown = settings.filter((one) =>
    `${one.name} ${one.help} ${helpOf(one)}`.toLowerCase().includes(wanted),
  );
  const groups = [...new Set(shown.map((one) => one.group))];
  return html`
    <div class="stack wide">
      <div class="field">
        <label for="find-setting">${t("new.find")}</label>
        <input
          id="find-setting"
          type="search"
          class="input"
          value=${search}
          onInput=${(event) => setSearch(event.target.value)}
        />
      </div>
      ${
        !shown.length &&
        html`
          <p class="muted" role="status">${t("new.find.none")}</p>
        `
      }
      ${groups.map(
        (group) => html`
          <section key=${group} class="stack" aria-label=${t(`group.${group}`)}>
            <h3>${t(`group.${group}`)}</h3>
            <div class="form-grid">
              ${shown
                .filter((one) => one.group === group)
                .map(
                  (one) => html`
                    <${SettingField}
                      key=${one.name}
                      setting=${one}
                      value=${values[one.name]}
                      set=${set}
                      wrong=${wrong === one.name}
                    />
                  `,
                )}
            </div>
          </section>
        `,
      )}
    </div>
  `;
}

const helpOf = (setting) =>
  known(`help.${setting.name}`) ? t(`help.${setting.name}`) : setting.help;

export function SettingField({ setting, value, set, wrong }) {
  const id = `setting-${setting.name}`;
  const translated = known(`help.${setting.name}`);
  const shared = {
    id,
    class: "input",
    "aria-describedby": `${id}-help`,
    "aria-invalid": wrong ? "true" : undefined,
  };
  return html`
    <div class=${`field setting ${value === undefined ? "" : "changed"}`}>
      <label for=${id} class="setting-name">${setting.name}</label>
      ${control(setting, value, set, shared)}
      <span class="help" id=${`${id}-help`} lang=${translated ? undefined : "en"}>
        <${Prose} text=${helpOf(setting)} />
      </span>
    </div>
  `;
}

function control(setting, value, set, shared) {
  const { name, choices, type } = setting;
  const numeric = /int|number|float/.test(String(type));
  const given = setting.default;
  const standard =
    given === null || given === undefined
      ? t("new.chosen")
      : typeof given === "object"
        ? Object.keys(given).length
          ? JSON.stringify(given)
          : t("new.nothing")
        : String(given);
  const options = /bool/.test(String(type))
    ? [...new Set([...(choices ?? []), true, false])]
    : choices;
  if (options?.length && !numeric) {
    const pick = (event) =>
      set(name, event.target.value === "" ? undefined : JSON.parse(event.target.value));
    return html`
      <select
        ...${shared}
        value=${value === undefined ? "" : JSON.stringify(value)}
        onChange=${pick}
      >
        <option value="">${t("new.default", { value: standard })}</option>
        ${options.map(
          (one) => html`
            <option key=${String(one)} value=${JSON.stringify(one)}>${String(one)}</option>
          `,
        )}
      </select>
    `;
  }
  const text =
    value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
  const typed = (event) => set(name, read(event.target.value, numeric, choices));
  return html`
    <input
      ...${shared}
      type="text"
      inputmode=${numeric ? "decimal" : undefined}
      autocomplete="off"
      spellcheck=${false}
      placeholder=${standard}
      value=${text}
      onChange=${typed}
    />
  `;
}

/** What was typed as JSON says it where it is JSON, as text otherwise; the server judges. */
function read(text, numeric, choices) {
  const trimmed = text.trim();
  if (!trimmed) return undefined;
  if (choices?.includes(trimmed)) return trimmed;
  if (numeric && Number.isFinite(Number(trimmed))) return Number(trimmed);
  if (/^[[{]/.test(trimmed)) {
    try {
      return JSON.parse(trimmed);
    } catch {
      return trimmed; // the server names what is wrong with it
    }
  }
  return trimmed;
}
