// What belongs to the reader, and how programs talk to this server.
import { html, useState } from "../lib.js";
import { post, useData } from "../api.js";
import { store, stored, t } from "../i18n.js";
import { Button, CodeBlock, PageHead } from "../parts/basic.js";
import { LanguageChoice } from "../parts/language.js";

const THEMES = ["system", "light", "dark"];

export default function Settings({ session, ask, changeLanguage }) {
  const [theme, setTheme] = useState(stored("theme") ?? "system");
  const models = useData("api/models");
  const list = models.data?.models ?? [];
  const model = (list.find((one) => one.luthier?.kind === "tuned") ?? list[0])?.id ?? "starter";
  const choose = (wish) => {
    setTheme(wish);
    store("theme", wish);
    const dark =
      wish === "dark" || (wish === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    dispatchEvent(new Event("luthier-theme"));
  };
  const leave = async () => {
    await post("api/logout");
    await ask();
  };
  const base = new URL("v1", location.href.split("#")[0]).href;
  return html`<${PageHead} title=${t("settings.title")} />
    <div class="grid two">
      <section class="card stack wide"><h2>${t("settings.look")}</h2>
        <${LanguageChoice} changeLanguage=${changeLanguage} />
        <fieldset><legend>${t("settings.theme")}</legend><div class="choices">${THEMES.map(
          (one) => html`
            <label class="choice" key=${one}>
              <input
                type="radio"
                name="theme"
                checked=${theme === one}
                onChange=${() => choose(one)}
              />
              ${t(`theme.${one}`)}
            </label>
          `,
        )}</div></fieldset>
      </section>
      <section class="card stack"><h2>${t("settings.server")}</h2>
        <dl class="pairs"><dt>${t("settings.version")}</dt><dd>${session.version}</dd><dt>
          <code>LUTHIER_HOME</code></dt><dd class="mono">${session.home}</dd>
          <dt>${t("settings.endpoint")}</dt><dd class="mono">${base}</dd><dt>${t("settings.document")}</dt>
          <dd><a href="openapi.json">openapi.json</a></dd></dl>
        <div class="row"><${Button} icon="out" onClick=${leave}>${t("settings.logout")}</${Button}></div>
      </section>
      <section class="card stack"><h2>${t("settings.code")}</h2>
        <p class="muted small">${t("settings.code.text")}</p>
        <${CodeBlock} label="Python" text=${python(base, model)} />
          <${CodeBlock} label="curl" text=${curl(base, model)} /></section>
    </div>`;
}

const python = (base, model) => `import os
from openai import OpenAI

client = OpenAI(base_url="${base}", api_key=os.environ["LUTHIER_TOKEN"])
answer = client.chat.completions.create(
    model="${model}",
    messages=[{"role": "user", "content": "Hello!"}],
)
print(answer.choices[0].message.content)`;

const curl = (base, model) => `curl ${base}/chat/completions \\
  -H "Authorization: Bearer $LUTHIER_TOKEN" \\
  -H "Content-Type: application/json" \\
  -d '{"model": "${model}", "messages": [{"role": "user", "content": "Hello!"}]}'`;
