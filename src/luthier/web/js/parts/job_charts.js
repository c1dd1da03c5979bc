// The charts of a run: what it learns, how fast, and what it takes from the machine.
import { html, useMemo, useState } from "../lib.js";
import { bytes, duration, figure, number, percent, stored, store, t } from "../i18n.js";
import { smooth } from "../series.js";
import { Empty, Loading } from "./basic.js";
import { Chart } from "./chart.js";

const whole = (value) => number(value, { maximumFractionDigits: 0 });
const share = (value) => percent(value, 1);
const clock = (value) => (value > 0 && value < 1 ? duration(0) : duration(value));
const per100 = (value) => percent(value / 100);

const CURVES = [
  ["accuracy", ["accuracy"], share],
  ["learning_rate", ["learning_rate"], figure],
  ["grad_norm", ["grad_norm"], figure],
  ["tokens_per_s", ["tokens_per_s"], whole],
  ["seconds", ["seconds"], duration],
  ["rewards_margin", ["rewards_margins"], figure],
  ["rewards_accuracy", ["rewards_accuracy"], share],
  ["rewards", ["rewards_chosen", "rewards_rejected"], figure],
  ["logp", ["logps_chosen", "logps_rejected"], figure],
];
const MONITOR = [
  [
    "device_memory",
    ["device_allocated_bytes", "device_reserved_bytes", "device_used_bytes", "device_total_bytes"],
    bytes,
  ],
  ["device_busy", ["device_percent"], per100],
  ["device_power", ["device_watts"], whole],
  ["device_heat", ["device_celsius"], whole],
  ["job_memory", ["rss_bytes"], bytes],
  ["host_memory", ["host_used_bytes"], bytes],
  ["processor", ["process_cpu_percent", "host_cpu_percent"], per100],
  ["disk", ["disk_free_bytes"], bytes],
];

export function Charts({ metrics, steps, predicted, state }) {
  const [weight, setWeight] = useState(Number(stored("smoothing") ?? 0.8));
  const [log, setLog] = useState(false);
  const grown = useMemo(() => metrics && extended(metrics, steps), [metrics, steps]);
  if (!grown)
    return html`
      <${Loading} />
    `;
  if (!grown.steps.length && !grown.evaluations.length)
    return html`<${Empty} icon="jobs" title=${t("charts.none")}>${t(
      state === "queued" ? "charts.queued" : "charts.none.text",
    )}</${Empty}>`;
  const axis = t("chart.step");
  const markers = [
    ...(grown.markers ?? []),
    ...grown.evaluations.map((one) => ({ step: one.step, kind: "evaluated" })),
  ]
    .filter((marker) => Number.isFinite(marker.step))
    .map((marker) => ({ ...marker, x: marker.step }));
  const change = (event) => (
    setWeight(Number(event.target.value)),
    store("smoothing", event.target.value)
  );
  return html`
    <div class="stack">
      <div class="row">
        <label class="check" for="smoothing">
          ${t("charts.smoothing")}${" "}
          <input
            id="smoothing"
            type="range"
            min="0"
            max="0.98"
            step="0.02"
            value=${weight}
            onInput=${change}
          />
        </label>
        <label class="check">
          <input
            type="checkbox"
            checked=${log}
            onChange=${(event) => setLog(event.target.checked)}
          />
          ${" "}${t("charts.log")}
        </label>
        <span class="small muted">${t("charts.marks")}</span>
      </div>
      <div class="charts" data-points=${grown.steps.length}>
        <${Chart}
          main
          name="loss"
          title=${t("chart.loss")}
          lines=${lossLines(grown, weight)}
          markers=${markers}
          log=${log}
          xLabel=${axis}
        />
        ${CURVES.map(
          ([name, keys, format]) => html`
            <${Chart}
              key=${name}
              name=${name}
              title=${t(`chart.${name}`)}
              lines=${curves(grown, keys, name)}
              markers=${markers}
              format=${format}
              xLabel=${axis}
            />
          `,
        )}
      </div>
      ${
        grown.monitor?.elapsed_s?.length > 0 &&
        html`
          <h2>${t("charts.machine")}</h2>
          <div class="charts">
            ${MONITOR.map(
              ([name, keys, format]) => html`
                <${Chart}
                  key=${name}
                  name=${name}
                  title=${t(`chart.${name}`)}
                  lines=${measured(grown.monitor, keys)}
                  format=${format}
                  xLabel=${t("chart.time")}
                  xFormat=${clock}
                  fromZero
                  limit=${limitOf(name, grown, predicted)}
                />
              `,
            )}
          </div>
        `
      }
    </div>
  `;
}

function lossLines({ steps, series, evaluations }, weight) {
  const y = series.loss ?? [];
  const held = evaluations.filter((one) => Number.isFinite(heldOut(one, "loss")));
  return [
    { label: t("line.loss_raw"), x: steps, y, look: "raw", tone: 0 },
    { label: t("line.loss"), x: steps, y: smooth(y, weight), tone: 0 },
    {
      label: t("line.eval_loss"),
      x: held.map((one) => one.step),
      y: held.map((one) => heldOut(one, "loss")),
      look: "points",
      tone: 1,
    },
  ];
}

const heldOut = (evaluation, name) =>
  evaluation[name] ?? evaluation[`eval_${name}`] ?? evaluation.metrics?.[name];

function curves({ steps, series, evaluations }, keys, name) {
  const lines = keys
    .filter((key) => series[key])
    .map((key, index) => ({ label: t(`line.${key}`), x: steps, y: series[key], tone: index }));
  const held = evaluations.filter((one) => Number.isFinite(heldOut(one, keys[0])));
  if (["accuracy", "rewards_accuracy"].includes(name) && held.length)
    lines.push({
      label: t("line.eval"),
      x: held.map((one) => one.step),
      y: held.map((one) => heldOut(one, keys[0])),
      look: "points",
      tone: 1,
    });
  return lines;
}

const measured = (monitor, keys) =>
  keys
    .filter((key) => monitor.series?.[key])
    .map((key, index) => ({
      label: t(`line.${key}`),
      x: monitor.elapsed_s,
      y: monitor.series[key],
      tone: index,
    }));

function limitOf(name, grown, predicted) {
  const value = grown.predicted?.peak_bytes ?? predicted;
  const device = Boolean(grown.monitor?.series?.device_allocated_bytes?.some(Number.isFinite));
  return value && name === (device ? "device_memory" : "job_memory")
    ? { value, label: t("chart.predicted") }
    : undefined;
}

/** Steps told by the stream since the metrics were asked for, behind them. */
function extended(metrics, steps) {
  const from = metrics.steps.at(-1) ?? 0;
  const fresh = steps.filter(
    (one, index) => one.step > from && (index === 0 || one.step > steps[index - 1].step),
  );
  const series = Object.fromEntries(
    Object.entries(metrics.series ?? {}).map(([name, y]) => [
      name,
      [...y, ...fresh.map((one) => one[name] ?? one.metrics?.[name] ?? null)],
    ]),
  );
  if (!metrics.steps.length && fresh.length)
    for (const name of ["loss", "learning_rate", "grad_norm", "tokens_per_s"])
      series[name] = fresh.map((one) => one[name] ?? null);
  return {
    ...metrics,
    steps: [...metrics.steps, ...fresh.map((one) => one.step)],
    series,
    evaluations: metrics.evaluations ?? [],
  };
}
