// One model: its numbers, what it takes here, what to watch out for.
import { html } from "../lib.js";
import { useData } from "../api.js";
import { bytes, number, parameters, t } from "../i18n.js";
import { link } from "../route.js";
import { ErrorNote, LinkButton, Loading, MarkBadge, PageHead } from "../parts/basic.js";
import { METHODS } from "./models.js";

export default function Model({ route }) {
  const name = route.parts.slice(1).join("/");
  const { data: model, error } = useData(`api/gallery/${encodeURI(name)}`);
  return html`<${PageHead} title=${name} lead=${model?.title ?? ""}>
      <${LinkButton} kind="main-action" href=${link("new", { model: name })}>${t("models.tune")}
        </${LinkButton}>
      <${LinkButton} icon="chat" href=${link("chat", { left: name })}>${t("nav.chat")}</${LinkButton}>
    </${PageHead}>
    <${ErrorNote} error=${error} />
    ${
      !model &&
      !error &&
      html`
        <${Loading} />
      `
    }
    ${
      model &&
      html`
        <div class="grid two">
          <${Facts} model=${model} />
          <${Fit} model=${model} />
          <${Advice} model=${model} />
        </div>
      `
    }`;
}

function Facts({ model }) {
  const rows = [
    [t("models.family"), model.family],
    [
      t("model.parameters"),
      model.parameters && `${parameters(model.parameters)} (${number(model.parameters)})`,
    ],
    [t("model.context"), model.context && t("tokens", { count: number(model.context) })],
    [t("model.licence"), model.licence],
    [t("model.languages"), model.languages?.join(", ")],
    [t("model.template"), model.template && t(`template.${model.template}`)],
    ["Hugging Face", model.hub],
    ["ModelScope", model.modelscope],
    ...Object.entries(model.architecture ?? {})
      .filter(([, value]) => typeof value !== "object")
      .map(([key, value]) => [key, typeof value === "number" ? number(value) : String(value)]),
  ];
  return html`
    <section class="card">
      <h2>${t("model.facts")}</h2>
      <dl class="pairs">
        ${rows
          .filter(([, value]) => value)
          .map(
            ([label, value]) => html`
              <dt key=${label}>${label}</dt>
              <dd>${value}</dd>
            `,
          )}
      </dl>
    </section>
  `;
}

const Fit = ({ model }) => html`
  <section class="card">
    <h2>${t("models.fit")}</h2>
    <table>
      <thead>
        <tr>
          <th scope="col">${t("new.method")}</th>
          <th scope="col" class="num">${t("plan.peak")}</th>
          <th scope="col">${t("plan.verdict")}</th>
        </tr>
      </thead>
      <tbody>
        ${METHODS.map(
          (method) => html`
            <tr key=${method}>
              <th scope="row">${method}</th>
              <td class="num">${bytes(model.marks?.[method]?.peak_bytes)}</td>
              <td><${MarkBadge} mark=${model.marks?.[method]?.mark} /></td>
            </tr>
          `,
        )}
      </tbody>
    </table>
  </section>
`;

function Advice({ model }) {
  const { recommended = [], traps = [] } = model;
  if (!recommended.length && !traps.length) return null;
  return html`
    <section class="card stack">
      ${
        traps.length > 0 &&
        html`
          <h2>${t("model.traps")}</h2>
          <ul class="findings" lang="en">
            ${traps.map(
              (trap) => html`
                <li key=${trap.text} class="stack tight">
                  <span>${trap.text}</span>
                  <span class="small muted">${trap.source}</span>
                </li>
              `,
            )}
          </ul>
        `
      }
      ${
        recommended.length > 0 &&
        html`
          <h2>${t("model.recommended")}</h2>
          <ul class="findings">
            ${recommended.map(
              (one, index) => html`
                <li key=${index} class="stack tight">
                  <span>
                    <code>${one.setting}</code>
                    ${" = "}
                    <strong>${String(one.value)}</strong>
                    ${" "}
                    <span class="small muted">
                      ${[...(one.methods ?? []), ...(one.objectives ?? [])].join(", ")}
                    </span>
                  </span>
                  <span class="small muted" lang="en">${one.source}</span>
                </li>
              `,
            )}
          </ul>
        `
      }
    </section>
  `;
}
