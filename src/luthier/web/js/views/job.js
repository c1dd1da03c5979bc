// Task monitoring: everything about one job, live and complete after a reload.
import { html, useEffect, useRef, useState } from "../lib.js";
import { post, remove, useData, useStream } from "../api.js";
import { duration, figure, language, moment, number, t } from "../i18n.js";
import { go, link } from "../route.js";
import {
  Button,
  Confirm,
  ErrorNote,
  LinkButton,
  Loading,
  PageHead,
  StateBadge,
  toast,
} from "../parts/basic.js";
import { Progress } from "../parts/progress.js";
import { Charts } from "../parts/job_charts.js";
import { Checkpoints, Course, Files, Log, Samples, SettingsTable } from "../parts/job_tabs.js";

const TABS = ["charts", "checkpoints", "samples", "logs", "settings", "files"];
const NEWS = [
  "state",
  "step",
  "evaluated",
  "checkpoint",
  "warning",
  "notice",
  "planned",
  "finished",
  "failed",
  "monitor",
];
const LIVE = ["created", "queued", "starting", "running", "saving", "pausing"];

export default function Job({ route }) {
  const id = route.parts[1];
  const tab = TABS.includes(route.parts[2]) ? route.parts[2] : "charts";
  const path = `api/jobs/${encodeURIComponent(id)}`;
  const detail = useData(`${path}?lang=${language()}`, { every: 10000 });
  const metrics = useData(`${path}/metrics?points=1000`);
  const [steps, setSteps] = useState([]);
  const [error, setError] = useState(null);
  const whole = useThrottled(() => (detail.again(), metrics.again()), 1500);
  const live = useStream(path && `${path}/stream`, NEWS, (name, data) => {
    if (name === "step") setSteps((old) => (old.length > 500 ? (whole(), old) : [...old, data]));
    else whole();
    return name === "state" && !LIVE.includes(data.state) && data.state !== "paused";
  });
  const job = detail.data?.job;
  usePolling(job && LIVE.includes(job.state) && !live, whole);
  const act = async (verb, body) => {
    try {
      const made = await post(`${path}/${verb}`, body);
      toast(t(`job.done.${verb}`));
      if (made.id !== id) return go("job", made.id); // a retry is a job of its own
    } catch (failed) {
      setError(failed);
    }
    return detail.again();
  };
  if (!job)
    return html`
      <${PageHead} title=${t("job.title")} />
      <${ErrorNote} error=${detail.error} />
      ${
        !detail.error &&
        html`
          <${Loading} />
        `
      }
    `;
  const last = steps.at(-1);
  const progress =
    last && last.step > (detail.data.progress?.step ?? 0)
      ? { ...detail.data.progress, ...last, steps: last.total ?? detail.data.progress?.steps }
      : detail.data.progress;
  return html`<${PageHead} title=${job.name || job.id}
    lead=${[job.base, job.method, job.objective].filter(Boolean).join(" · ")}>
      <${StateBadge} state=${job.state} /><${Actions} job=${job} act=${act} path=${path}
        onError=${setError} />
    </${PageHead}>
    <div class="stack wide">
      <${ErrorNote} error=${error} />
      <${ErrorNote} error=${job.state === "failed" || job.error ? job.error : null}
        title=${t("job.failed")} />
      <${Head} job=${{ ...job, progress }} detail=${detail.data} live=${live} />
      ${
        detail.data.finished?.reason === "early_stopping" &&
        html`
          <p class="note small">${t("job.early", { step: number(detail.data.finished.step) })}</p>
        `
      }
      <${Verdicts} verdicts=${detail.data.verdicts ?? []} />
    </div>
    <nav class="tabs" aria-label=${t("job.tabs")}>${TABS.map(
      (one) => html`
        <a key=${one} href=${link("job", id, one)} aria-current=${one === tab ? "page" : undefined}>
          ${t(`job.tab.${one}`)}
        </a>
      `,
    )}</nav>
    <${ErrorNote} error=${metrics.error} />
    ${
      tab === "charts" &&
      html`
        <${Charts}
          metrics=${metrics.data}
          steps=${steps}
          predicted=${detail.data.plan?.predicted?.peak_bytes ?? detail.data.plan?.peak_bytes}
          state=${job.state}
        />
      `
    }
    ${
      tab === "checkpoints" &&
      html`
        <${Checkpoints} path=${path} turn=${detail.data} base=${job.base} />
      `
    }
    ${
      tab === "samples" &&
      html`
        <${Samples} samples=${metrics.data?.samples} />
      `
    }
    ${
      tab === "logs" &&
      html`
        <${Course} history=${detail.data.history ?? []} markers=${metrics.data?.markers ?? []} />
        <${Log} path=${path} live=${LIVE.includes(job.state)} />
      `
    }
    ${
      tab === "settings" &&
      html`
        <${SettingsTable} detail=${detail.data} />
      `
    }
    ${
      tab === "files" &&
      html`
        <${Files} path=${path} turn=${job.state} />
      `
    }`;
}

const ACTIONS = {
  pause: [["running"], "pause"],
  resume: [["paused"], "play"],
  stop_early: [["running"], "flag"],
  cancel: [["created", "queued", "starting", "running", "saving", "paused", "pausing"], "stop"],
  retry: [["failed", "cancelled"], "again"],
};

function Actions({ job, act, path, onError }) {
  const [asked, setAsked] = useState(null);
  const yes = async () => {
    const verb = asked;
    setAsked(null);
    if (verb !== "delete") return act(verb);
    try {
      await remove(path);
      toast(t("job.done.delete"));
      return go("jobs");
    } catch (failed) {
      return onError(failed);
    }
  };
  const ended = ["finished", "failed", "cancelled"].includes(job.state);
  return html`${
    job.state === "finished" &&
    html`<${LinkButton} kind="main-action" icon="chat"
      href=${link("chat", { left: job.base, right: job.model })}>${t("job.try")}</${LinkButton}>
      <${LinkButton} icon="down" href=${`${path}/files/result.zip`} download>${t("job.result")}
        </${LinkButton}>`
  }
    ${Object.entries(ACTIONS)
      .filter(
        ([verb, [states]]) => states.includes(job.state) && (job.managed || verb === "cancel"),
      )
      .map(
        ([verb, [, icon]]) =>
          html`<${Button} key=${verb} icon=${icon} onClick=${() =>
            ["cancel", "stop_early"].includes(verb) ? setAsked(verb) : act(verb)}>
            ${t(`job.action.${verb}`)}</${Button}>`,
      )}
    <${LinkButton} icon="copy" href=${link("new", { from: job.id })}>${t("job.action.clone")}
      </${LinkButton}>
    ${
      ended &&
      job.managed &&
      html`<${Button} kind="plain" icon="trash" onClick=${() => setAsked("delete")}>${t("delete")}
      </${Button}>`
    }
    ${
      asked &&
      html`
        <${Confirm}
          title=${t(`job.ask.${asked}`)}
          text=${t(`job.ask.${asked}.text`)}
          action=${t(asked === "delete" ? "delete" : `job.action.${asked}`)}
          onYes=${yes}
          onNo=${() => setAsked(null)}
        />
      `
    }`;
}

function Head({ job, detail, live }) {
  const progress = job.progress ?? {};
  const facts = [
    ["job.loss", figure(progress.loss)],
    [
      "job.best",
      detail.best
        ? t("job.best.at", { value: figure(detail.best.metrics?.loss), step: detail.best.step })
        : "–",
    ],
    [
      "job.speed",
      progress.tokens_per_s
        ? t("job.per_second", {
            count: number(progress.tokens_per_s, { maximumFractionDigits: 0 }),
          })
        : "–",
    ],
    ["job.elapsed", duration(elapsed(job))],
    job.devices?.length && ["job.devices", job.devices.join(", ")],
    ["job.created", moment(job.created_at)],
  ].filter(Boolean);
  return html`
    <section class="card stack" aria-label=${t("job.overview")}>
      <${Progress} state=${job.state} progress=${job.progress} />
      <dl class="facts">
        ${facts.map(
          ([key, value]) => html`
            <div key=${key}>
              <dt>${t(key)}</dt>
              <dd>${value}</dd>
            </div>
          `,
        )}
      </dl>
      ${
        LIVE.includes(job.state) &&
        html`
          <div class="small muted" role="status">${t(live ? "job.live" : "job.polling")}</div>
        `
      }
      <${Equivalent} job=${job} />
    </section>
  `;
}

function elapsed(job) {
  if (!job.started_at) return null;
  if (job.state === "paused") return job.progress?.elapsed_s ?? null; // time stands still with it
  return (job.finished_at ?? Date.now() / 1000) - job.started_at;
}

const Equivalent = ({ job }) => html`
  <details>
    <summary>${t("job.command")}</summary>
    <pre class="code" tabindex="0">luthier jobs follow ${job.id}</pre>
  </details>
`;

const Verdicts = ({ verdicts }) =>
  verdicts.length > 0 &&
  html`
    <ul class="findings card">
      ${verdicts.map(
        (verdict, index) => html`
          <li key=${index} class="row top">
            <span class=${`badge ${{ error: "bad", warning: "warn" }[verdict.severity] ?? "info"}`}>
              ${t(`severity.${verdict.severity}`)}
            </span>
            <span class="grow">
              ${verdict.text ?? verdict.what ?? verdict.code}${
                verdict.action &&
                html`
                  <span class="muted">${" "}${verdict.action}</span>
                `
              }
            </span>
          </li>
        `,
      )}
    </ul>
  `;

/** At most one call in `pause` milliseconds, and the last one always. */
function useThrottled(action, pause) {
  const latest = useRef(action);
  latest.current = action;
  const timer = useRef(null);
  useEffect(() => () => clearTimeout(timer.current), []);
  return () => {
    timer.current ??= setTimeout(() => {
      timer.current = null;
      latest.current();
    }, pause);
  };
}

/** Where the stream does not come through, ask. */
function usePolling(wanted, action) {
  const latest = useRef(action);
  latest.current = action;
  useEffect(() => {
    if (!wanted) return undefined;
    const timer = setInterval(() => latest.current(), 4000);
    return () => clearInterval(timer);
  }, [wanted]);
}
