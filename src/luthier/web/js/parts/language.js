import { html } from "../lib.js";
import { language, LANGUAGES, t } from "../i18n.js";

export const LanguageChoice = ({ changeLanguage }) => html`
  <div class="field">
    <label for="language">${t("settings.language")}</label>
    <select
      id="language"
      class="input"
      value=${language()}
      onChange=${(event) => changeLanguage(event.target.value)}
    >
      ${Object.entries(LANGUAGES).map(
        ([code, name]) => html`
          <option key=${code} value=${code} lang=${code}>${name}</option>
        `,
      )}
    </select>
  </div>
`;
