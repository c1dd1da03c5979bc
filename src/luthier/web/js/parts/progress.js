// How far a job is: a bar, and the same in words.
import { html } from "../lib.js";
import { duration, number, t } from "../i18n.js";

export function Progress({ job }) {
  const progress = job.progress;
  if (!progress?.steps || !["running", "saving", "pausing", "paused", "starting"].includes(job.state)) return null;
  const share = Math.min(1, progress.step / progress.steps);
  const left = job.state === "running" && progress.eta_s > 0 ? ` · ${t("job.left", { time: duration(progress.eta_s) })}` : "";
  return html`<div class="stack tight">
    <div class="meter" role="progressbar" aria-label=${t("job.progress")} aria-valuemin="0" aria-valuemax=${progress.steps} aria-valuenow=${progress.step}><span style=${{ width: `${share * 100}%` }}></span></div>
    <div class="small muted">${t("job.step", { step: number(progress.step), steps: number(progress.steps) })}${left}</div>
  </div>`;
}
