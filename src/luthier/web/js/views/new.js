// A job in three choices, with what it will take beside them.  The form is in the address.
import { html, useEffect, useRef, useState } from "../lib.js";
import { get, post, useData } from "../api.js";
import { t } from "../i18n.js";
import { go, replace } from "../route.js";
import {
  BITS,
  PLACED,
  fromAddress,
  fromJob,
  settingsOf,
  toAddress,
  withSetting,
  without,
} from "../parts/form.js";
import { Button, ErrorNote, PageHead, toast } from "../parts/basic.js";
import { FileChoice, ModelChoice } from "../parts/choose.js";
import { Live } from "../parts/plan.js";
import { SettingField, SettingsForm } from "../parts/settings_form.js";

const METHODS = ["lora", "qlora", "full"];
const OBJECTIVES = ["sft", "dpo", "kto", "text"];

export default function NewJob({ route }) {
  const [form, setForm] = useState(() => fromAddress(route.query));
  const [all, setAll] = useState(false);
  const [error, setError] = useState(null);
  const wrong = error?.param?.replace(/^settings\./, "");
  const [busy, setBusy] = useState(false);
  const known = useData("api/settings");
  const settings = known.data?.settings ?? [];
  const shown = useRef(route);
  useEffect(() => {
    if (shown.current !== route) setForm(fromAddress(route.query)); // a link, or the way back
    shown.current = route;
  }, [route]);
  useEffect(() => {
    if (route.query.from)
      get(`api/jobs/${encodeURIComponent(route.query.from)}`).then(
        (detail) => setForm(fromJob(detail)),
        setError,
      );
  }, [route.query.from]);
  const change = (part) => {
    const next = { ...form, ...part };
    setForm(next);
    setError(null);
    replace("new", toAddress(next));
  };
  const set = (name, value) => {
    change(withSetting(form, name, value));
  };
  const take = ({ method = form.method, objective = form.objective, ...more }) =>
    change({ method, objective, more: { ...form.more, ...more } });
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const job = await post("api/jobs", {
        settings: settingsOf(form),
        ...(form.name && { name: form.name }),
      });
      toast(t("new.started"));
      go("job", job.id);
    } catch (failed) {
      setError(failed);
      setBusy(false);
    }
  };
  const simple = settings.filter(
    (one) => one.simple && !PLACED.includes(one.name) && applies(one.name, form),
  );
  return html`<${PageHead} title=${t("new.title")} lead=${t("new.lead")} />
    <form class="new-job" onSubmit=${submit}>
      <div class="stack wide">
        <section class="card stack" aria-labelledby="what"><h2 id="what">${t("new.what")}</h2>
          <div class="form-grid">
            <${ModelChoice} id="model" label=${t("new.model")} value=${form.model} onChange=${(
              model,
            ) => change({ model })} />
            <${FileChoice} id="data" label=${t("new.data")} value=${form.data} onChange=${(data) =>
              change({ data, more: without(form.more, "dataset") })} help=${html`
              <a href="#/data">${t("new.upload")}</a>
            `} />
            <${FileChoice} id="held" label=${t("new.held")} value=${form.held} onChange=${(held) =>
              change({
                held,
                more: without(form.more, "eval_dataset"),
              })} empty=${t("new.held.none")} />
            <div class="field"><label for="name">${t("new.name")}</label>
              <input id="name" class="input" maxlength="64" value=${form.name} onInput=${(event) =>
                change({ name: event.target.value })} /></div>
          </div>
        </section>
        <section class="card stack wide" aria-labelledby="how"><h2 id="how">${t("new.how")}</h2>
          <${Choices} name="method" legend=${t("new.method")} values=${METHODS} value=${form.method}
            onChange=${(method) => change({ method })} />
          <${Choices} name="objective" legend=${t("new.objective")} values=${OBJECTIVES}
            value=${form.objective} onChange=${(objective) => change({ objective })} />
        </section>
        <section class="card stack wide" aria-labelledby="settings-head">
          <div class="card-head"><h2 id="settings-head">${t("new.settings")}</h2>
            <div class="row" role="group" aria-label=${t("new.settings")}>
              <${Button} kind="small" aria-pressed=${!all} onClick=${() => setAll(false)}>${t("new.simple")}
                </${Button}>
              <${Button} kind="small" aria-pressed=${all} onClick=${() => setAll(true)}>${t("new.all")}
                </${Button}>
            </div></div>
          <${ErrorNote} error=${known.error} />
          ${
            all
              ? html`
                  <${SettingsForm}
                    settings=${settings.filter((one) => !PLACED.includes(one.name))}
                    values=${form.more}
                    set=${set}
                    wrong=${wrong}
                  />
                `
              : html`
                  <div class="form-grid">
                    ${simple.map(
                      (one) => html`
                        <${SettingField}
                          key=${one.name}
                          setting=${one}
                          value=${form.more[one.name]}
                          set=${set}
                          wrong=${wrong === one.name}
                        />
                      `,
                    )}
                  </div>
                `
          }
        </section>
        <${ErrorNote} error=${error} />
        <div class="row"><${Button} type="submit" kind="main-action" icon="play"
          disabled=${busy || !form.data}>${t("new.start")}</${Button}>
          ${
            !form.data &&
            html`
              <span class="small muted">${t("new.choose.data")}</span>
            `
          }</div>
      </div>
      <${Live} form=${form} settings=${settingsOf(form)} set=${take} />
    </form>`;
}

const applies = (name, form) =>
  !(name.startsWith("lora") && form.method === "full") &&
  !(/^(dpo|simpo)_/.test(name) && form.objective !== "dpo" && name !== "dpo_beta") &&
  !(name === "dpo_beta" && !["dpo", "kto"].includes(form.objective)) &&
  !(name.startsWith("kto_") && form.objective !== "kto") &&
  !(BITS.includes(name) && form.method !== "qlora");

const Choices = ({ name, legend, values, value, onChange }) => html`
  <fieldset>
    <legend>${legend}</legend>
    <div class="choices">
      ${values.map(
        (one) => html`
          <label class="choice" key=${one}>
            <input
              type="radio"
              name=${name}
              value=${one}
              checked=${one === value}
              onChange=${() => onChange(one)}
            />
            <span class="stack tight">
              <span class="strong">${t(`${name}.${one}`)}</span>
              <span class="small muted">${t(`${name}.${one}.text`)}</span>
            </span>
          </label>
        `,
      )}
    </div>
  </fieldset>
`;
