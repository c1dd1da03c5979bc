// How far a job is: a bar, and the same in words.
import { html, useState } from "../lib.js";
import { useStream } from "../api.js";
import { duration, number, t } from "../i18n.js";

export function Progress({ state, progress }) {
  const steps = progress?.steps ?? progress?.total;
  if (!steps || !["running", "saving", "pausing", "paused", "starting"].includes(state))
    return null;
  const share = Math.min(1, (progress.step ?? 0) / steps);
  const left =
    state === "running" && progress.eta_s > 0
      ? ` · ${t("job.left", { time: duration(progress.eta_s) })}`
      : "";
  return html`
    <div class="stack tight">
      <div
        class="meter"
        role="progressbar"
        aria-label=${t("job.progress")}
        aria-valuemin="0"
        aria-valuemax=${steps}
        aria-valuenow=${progress.step ?? 0}
      >
        <span style=${{ width: `${share * 100}%` }}></span>
      </div>
      <div class="small muted">
        ${t("job.step", { step: number(progress.step ?? 0), steps: number(steps) })}${left}
      </div>
    </div>
  `;
}

/** The last step of each job that runs, as the stream of all jobs tells it; other news to `onNews`. */
export function useSteps(onNews) {
  const [steps, setSteps] = useState({});
  useStream("api/stream", ["machine", "state", "step"], (name, data) => {
    if (name === "step") setSteps((old) => ({ ...old, [data.id]: data }));
    else onNews(name, data);
  });
  return steps;
}
