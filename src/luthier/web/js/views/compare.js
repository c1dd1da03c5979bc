// Two to six jobs on the same axes, and where their settings differ.
import { html, useEffect, useState } from "../lib.js";
import { get } from "../api.js";
import { figure, percent, t } from "../i18n.js";
import { link } from "../route.js";
import { Empty, ErrorNote, LinkButton, Loading, PageHead, StateBadge } from "../parts/basic.js";
import { Chart } from "../parts/chart.js";
import { shown } from "../parts/job_tabs.js";
import { smooth } from "../series.js";

const CURVES = [
  ["loss", figure],
  ["accuracy", (value) => percent(value, 1)],
  ["learning_rate", figure],
  ["grad_norm", figure],
  ["tokens_per_s", figure],
];

export default function Compare({ route }) {
  const ids = route.parts.slice(1, 7);
  const [state, setState] = useState({});
  const [same, setSame] = useState(false);
  useEffect(() => {
    const one = async (id) => ({
      id,
      detail: await get(`api/jobs/${encodeURIComponent(id)}`),
      metrics: await get(`api/jobs/${encodeURIComponent(id)}/metrics?points=500`),
    });
    Promise.all(ids.map(one)).then(
      (jobs) => setState({ jobs }),
      (error) => setState({ error }),
    );
  }, [ids.join()]);
  const { jobs, error } = state;
  const name = ({ id, detail }) => detail.job.name || id;
  const lines = (key) =>
    jobs
      .filter((one) => one.metrics.series?.[key])
      .map((one) => ({
        label: name(one),
        x: one.metrics.steps,
        y: key === "loss" ? smooth(one.metrics.series[key], 0.8) : one.metrics.series[key],
        tone: jobs.indexOf(one),
      }));
  const held = () =>
    jobs.map((one) => ({
      label: name(one),
      x: one.metrics.evaluations.map((e) => e.step),
      y: one.metrics.evaluations.map((e) => e.loss),
      look: "points",
      tone: jobs.indexOf(one),
    }));
  return html`<${PageHead} title=${t("compare.title")} lead=${t("compare.lead")}>
    <${LinkButton} href=${link("jobs")}>${t("nav.jobs")}</${LinkButton}></${PageHead}>
    <${ErrorNote} error=${error} />
    ${
      ids.length < 2 &&
      html`<${Empty} icon="jobs" title=${t("compare.few")}>${t("compare.few.text")}
      </${Empty}>`
    }
    ${
      !jobs &&
      !error &&
      html`
        <${Loading} />
      `
    }
    ${
      jobs &&
      html`
        <div class="stack wide">
          <div class="row">
            ${jobs.map(
              (one) => html`
                <a key=${one.id} class="button small" href=${link("job", one.id)}>
                  ${name(one)}${" "}
                  <${StateBadge} state=${one.detail.job.state} />
                </a>
              `,
            )}
          </div>
          <div class="charts">
            <${Chart}
              main
              name="eval_loss"
              title=${t("line.eval_loss")}
              lines=${held()}
              xLabel=${t("chart.step")}
            />
            ${CURVES.map(
              ([key, format]) => html`
                <${Chart}
                  key=${key}
                  name=${key}
                  title=${t(`chart.${key}`)}
                  lines=${lines(key)}
                  format=${format}
                  xLabel=${t("chart.step")}
                />
              `,
            )}
          </div>
          <section class="card stack">
            <div class="card-head">
              <h2>${t("compare.settings")}</h2>
              <label class="check">
                <input
                  type="checkbox"
                  checked=${same}
                  onChange=${(event) => setSame(event.target.checked)}
                />
                ${" "}${t("compare.same")}
              </label>
            </div>
            <${Difference} jobs=${jobs} name=${name} same=${same} />
          </section>
        </div>
      `
    }`;
}

function Difference({ jobs, name, same }) {
  const of = (one) => one.detail.settings ?? {};
  const keys = [...new Set(jobs.flatMap((one) => Object.keys(of(one))))];
  const differs = (key) => new Set(jobs.map((one) => shown(of(one)[key]))).size > 1;
  const rows = keys.filter((key) => same || differs(key));
  if (!rows.length)
    return html`
      <p class="muted">${t("compare.equal")}</p>
    `;
  return html`
    <div class="scroll-x" tabindex="0" role="region" aria-label=${t("compare.settings")}>
      <table class="diff">
        <thead>
          <tr>
            <th scope="col">${t("settings.name")}</th>
            ${jobs.map(
              (one) => html`
                <th scope="col" key=${one.id}>${name(one)}</th>
              `,
            )}
          </tr>
        </thead>
        <tbody>
          ${rows.map(
            (key) => html`
              <tr key=${key} class=${same && differs(key) ? "differs" : ""}>
                <th scope="row" class="setting-name">${key}</th>
                ${jobs.map(
                  (one) => html`
                    <td key=${one.id}>${shown(of(one)[key])}</td>
                  `,
                )}
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `;
}
