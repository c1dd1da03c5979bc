// Every job: filter, open, mark two or more to compare.
import { html, useState } from "../lib.js";
import { query, useData } from "../api.js";
import { ago, t } from "../i18n.js";
import { go, link, replace } from "../route.js";
import {
  Button,
  Empty,
  ErrorNote,
  LinkButton,
  Loading,
  PageHead,
  StateBadge,
} from "../parts/basic.js";
import { Progress, useSteps } from "../parts/progress.js";

const STATES = ["queued", "running", "paused", "finished", "failed", "cancelled"];

export default function Jobs({ route }) {
  const [filter, setFilter] = useState({ state: "", q: "", ...route.query });
  const [marked, setMarked] = useState([]);
  const { data, error, again } = useData(query("api/jobs", { limit: 100, state: filter.state }), {
    every: 5000,
  });
  const steps = useSteps((name) => name === "state" && again());
  const change = (part) => {
    const next = { ...filter, ...part };
    setFilter(next);
    replace("jobs", next);
  };
  const jobs = (data?.jobs ?? []).filter((job) =>
    `${job.name} ${job.id} ${job.base} ${job.method}`
      .toLowerCase()
      .includes(filter.q.toLowerCase()),
  );
  const mark = (id) =>
    setMarked(marked.includes(id) ? marked.filter((one) => one !== id) : [...marked, id].slice(-6));
  const bare = data && !jobs.length && !filter.q && !filter.state;
  return html`<${PageHead} title=${t("jobs.title")} lead=${t("jobs.lead")}>
      <${Button} disabled=${marked.length < 2} onClick=${() => go("compare", ...marked)}>
        ${t("jobs.compare", { count: marked.length })}</${Button}>
      <${LinkButton} kind="main-action" icon="plus" href=${link("new")}>${t("nav.new")}</${LinkButton}>
    </${PageHead}>
    <${ErrorNote} error=${error} />
    ${
      !bare &&
      html`
        <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
          <div class="field grow">
            <label for="find-job">${t("jobs.find")}</label>
            <input
              id="find-job"
              type="search"
              class="input"
              value=${filter.q}
              onInput=${(event) => change({ q: event.target.value })}
            />
          </div>
          <div class="field">
            <label for="state">${t("jobs.state")}</label>
            <select
              id="state"
              class="input"
              value=${filter.state}
              onChange=${(event) => change({ state: event.target.value })}
            >
              <option value="">${t("all")}</option>
              ${STATES.map(
                (state) => html`
                  <option key=${state} value=${state}>${t(`state.${state}`)}</option>
                `,
              )}
            </select>
          </div>
        </form>
      `
    }
    ${
      !data &&
      !error &&
      html`
        <${Loading} />
      `
    }
    ${
      bare &&
      html`<${Empty} icon="jobs" title=${t("jobs.none")} action=${html`<${LinkButton}
      kind="main-action" href=${link("new")}>${t("nav.new")}</${LinkButton}>`}>${t("jobs.none.text")}
      </${Empty}>`
    }
    ${
      data &&
      !jobs.length &&
      !bare &&
      html`
        <p class="muted" role="status">${t("jobs.no.match")}</p>
      `
    }
    ${
      jobs.length > 0 &&
      html`
        <div class="card flush scroll-x">
          <table class="cards jobs-table">
            <caption class="unseen">${t("jobs.title")}</caption>
            <thead>
              <tr>
                <th scope="col"><span class="unseen">${t("jobs.mark")}</span></th>
                <th scope="col">${t("data.name")}</th>
                <th scope="col">${t("jobs.state")}</th>
                <th scope="col">${t("new.model")}</th>
                <th scope="col">${t("new.method")}</th>
                <th scope="col">${t("job.created")}</th>
              </tr>
            </thead>
            <tbody>
              ${jobs.map(
                (job) => html`
                  <${Line}
                    key=${job.id}
                    job=${job}
                    step=${steps[job.id]}
                    marked=${marked.includes(job.id)}
                    mark=${mark}
                  />
                `,
              )}
            </tbody>
          </table>
        </div>
      `
    }`;
}

const Line = ({ job, step, marked, mark }) => html`
  <tr>
    <td>
      <input
        type="checkbox"
        checked=${marked}
        aria-label=${`${t("jobs.mark")}: ${job.name || job.id}`}
        onChange=${() => mark(job.id)}
      />
    </td>
    <th scope="row">
      <a href=${link("job", job.id)}>${job.name || job.id}</a>
      ${
        !job.managed &&
        html`
          ${" "}
          <span class="badge">${t("jobs.shell")}</span>
        `
      }
    </th>
    <td>
      <div class="stack tight">
        <span><${StateBadge} state=${job.state} /></span>
        <${Progress} state=${job.state} progress=${step} />
        ${
          job.error &&
          html`
            <span class="small muted" lang="en">${job.error.what ?? job.error.message}</span>
          `
        }
      </div>
    </td>
    <td data-label=${t("new.model")}>${job.base}</td>
    <td data-label=${t("new.method")}>
      ${[job.method, job.objective].filter(Boolean).join(" · ")}
    </td>
    <td data-label=${t("job.created")}>${ago(job.created_at)}</td>
  </tr>
`;
