// The token is asked for once; the server answers with a cookie that scripts cannot read.
import { html, useEffect, useState } from "../lib.js";
import { post } from "../api.js";
import { t } from "../i18n.js";
import { Button, ErrorNote } from "../parts/basic.js";
import { LanguageChoice } from "../parts/language.js";

export default function Login({ onDone, changeLanguage }) {
  const [token, setToken] = useState("");
  const [error, setError] = useState(null);
  useEffect(() => {
    document.title = `${t("login.title")} · luthier`;
  });
  const submit = async (event) => {
    event.preventDefault();
    try {
      await post("api/login", { token: token.trim() });
      await onDone();
    } catch (failed) {
      setError(failed);
    }
  };
  return html`<main class="login">
    <form class="card stack wide" onSubmit=${submit}>
      <div class="row"><img class="login-mark" src="icon.svg" alt="" /><h1>${t("login.title")}</h1></div>
      <p class="muted">${t("login.lead")}</p>
      <div class="field">
        <label for="token">${t("login.token")}</label>
        <input id="token" class="input mono" type="password" autocomplete="current-password" required
          value=${token} onInput=${(event) => setToken(event.target.value)} />
        <span class="help">${t("login.help")}</span>
        <code class="code">luthier serve --show-token</code>
      </div>
      <${ErrorNote} error=${error} />
      <${Button} type="submit" kind="main-action">${t("login.enter")}</${Button}>
      <${LanguageChoice} changeLanguage=${changeLanguage} />
    </form>
  </main>`;
}
