// A chart three times: drawn, described in a sentence, and as a table.
import { html, useEffect, useMemo, useRef, useState } from "../lib.js";
import { figure, t } from "../i18n.js";
import { align, csv, spread, summary } from "../series.js";
import { Button } from "./basic.js";

const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [4, 4], [12, 4]];
const ROWS = 40;
let library = null;

/** uPlot is fetched when the first chart is drawn. */
function plotter() {
  library ??= new Promise((resolve, reject) => {
    const style = Object.assign(document.createElement("link"), {
      rel: "stylesheet",
      href: "vendor/uplot.css",
    });
    const script = Object.assign(document.createElement("script"), { src: "vendor/uplot.js" });
    script.onload = () => resolve(globalThis["uPlot"]);
    script.onerror = () => reject(new Error("vendor/uplot.js"));
    document.head.append(style, script);
  });
  return library;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * Args: title; lines: [{label, x, y, look?: "raw" | "points", tone?: 0..5}]; markers: [{x, kind, text}];
 * format: value to text; log: logarithmic y; xLabel; main: wide; limit: {value, label}, a level drawn across.
 */
export function Chart({
  title,
  lines,
  markers = [],
  format = figure,
  log = false,
  xLabel,
  main = false,
  name,
  limit,
  xFormat,
  fromZero = false,
}) {
  const shown = lines.filter((line) => line.y.some(Number.isFinite));
  const data = useMemo(() => align(shown), [lines]);
  const [cursor, setCursor] = useState(null);
  const at = xFormat ?? figure;
  if (!shown.length) return null;
  const save = () =>
    download(`${name ?? title}.csv`, csv([xLabel, ...shown.map((line) => line.label)], data));
  return html`<figure class=${`card chart ${main ? "main-chart" : ""}`} data-chart=${name}>
    <div class="card-head"><h3>${title}</h3><${Button} kind="small plain" icon="down"
      aria-label=${`${t("chart.csv")}: ${title}`} onClick=${save}>CSV</${Button}></div>
    <${Legend} lines=${shown} data=${data} cursor=${cursor} format=${format} xLabel=${xLabel} at=${at} />
    <${Plot} key=${shown.map((line) => line.label).join()} lines=${shown} data=${data} markers=${markers}
      format=${format} log=${log} height=${main ? 300 : 176} title=${title} onCursor=${setCursor}
      limit=${limit} at=${at} fromZero=${fromZero} />
    <figcaption class=${main ? "" : "unseen"}>${shown
      .filter((line) => line.look !== "raw" || shown.length === 1)
      .map((line) => sentence(line, format, xLabel, at))
      .join(" ")}${limit ? ` ${limit.label}: ${format(limit.value)}.` : ""}</figcaption>
    <details><summary>${t("chart.table")}</summary><${Twin} title=${title} lines=${shown} data=${data}
      format=${format} xLabel=${xLabel} at=${at} /></details>
  </figure>`;
}

function sentence(line, format, xLabel, at) {
  const found = summary(line.x, line.y);
  const [from, to] = [found.first, found.last];
  return t("chart.sentence", {
    label: line.label,
    first: format(from[1]),
    last: format(to[1]),
    start: at(from[0]),
    end: at(to[0]),
    axis: xLabel,
    low: format(found.lowest[1]),
    where: at(found.lowest[0]),
  });
}

function Legend({ lines, data, cursor, format, xLabel, at }) {
  const place = cursor ?? data[0].length - 1;
  return html`
    <div class="legend">
      ${
        cursor !== null &&
        html`
          <span class="muted">${xLabel} ${at(data[0][cursor])}</span>
        `
      }
      ${lines.map(
        (line, index) => html`
          <span key=${line.label}>
            <svg class="line" viewBox="0 0 24 10" aria-hidden="true">
              <path
                d="M1 5h22"
                fill="none"
                stroke=${`var(--series-${tone(line, index) + 1})`}
                stroke-width=${line.look === "raw" ? 1 : 2.5}
                stroke-dasharray=${dash(line, index)
                  .map((part) => part * 0.7)
                  .join(" ")}
              />
            </svg>
            ${" "}${line.label}${" "}
            <strong>${format(nearest(data[index + 1], place))}</strong>
          </span>
        `,
      )}
    </div>
  `;
}

const tone = (line, index) => (line.tone ?? index) % 6;
const dash = (line, index) => (line.look === "raw" ? [] : DASHES[tone(line, index)]);

/** The last value at or before a place: an evaluation holds until the next. */
function nearest(y, at) {
  for (let index = at; index >= 0; index--) if (y[index] !== null) return y[index];
  return null;
}

function Plot({ lines, data, markers, format, log, height, title, onCursor, limit, at, fromZero }) {
  const box = useRef();
  const plot = useRef(null);
  const latest = useRef({});
  latest.current = { markers, limit };
  const [theme, setTheme] = useState(document.documentElement.dataset.theme);
  const [ready, setReady] = useState(false);
  useEffect(() => {
    const changed = () => setTheme(document.documentElement.dataset.theme);
    addEventListener("luthier-theme", changed);
    return () => removeEventListener("luthier-theme", changed);
  }, []);
  useEffect(() => {
    let wanted = true;
    let watcher = null;
    plotter().then((UPlot) => {
      if (!wanted) return;
      const width = () => Math.max(200, box.current?.clientWidth ?? 200);
      plot.current = new UPlot(
        options(UPlot, {
          lines,
          log,
          format,
          height,
          width: width(),
          latest,
          onCursor,
          at,
          fromZero,
        }),
        data,
        box.current,
      );
      watcher = new ResizeObserver(() => plot.current?.setSize({ width: width(), height }));
      watcher.observe(box.current);
      setReady(true);
    });
    return () => {
      wanted = false;
      watcher?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [theme, log]);
  useEffect(() => plot.current?.setData(data), [data]);
  useEffect(() => plot.current?.redraw(), [markers.length, limit?.value]);
  const step = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (!by || !plot.current) return;
    event.preventDefault();
    const x = data[0];
    const from = plot.current.cursor.idx ?? x.length - 1;
    const to = Math.max(0, Math.min(x.length - 1, from + by));
    plot.current.setCursor({ left: plot.current.valToPos(x[to], "x"), top: 10 });
    onCursor(to);
  };
  const label = t("chart.keys", { title });
  return html`
    <div
      class="plot"
      ref=${box}
      tabindex="0"
      role="img"
      aria-label=${label}
      data-ready=${ready ? "true" : "false"}
      onKeyDown=${step}
    ></div>
  `;
}

function options(UPlot, { lines, log, format, height, width, latest, onCursor, at, fromZero }) {
  const [ink, grid] = [colour("--muted"), colour("--line")];
  const font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const axis = { stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
  return {
    width,
    height,
    legend: { show: false },
    cursor: { y: false, points: { size: 6 }, drag: { x: true, y: false } },
    scales: {
      x: { time: false },
      y: log
        ? { distr: 3 }
        : { range: (_, low, high) => range(UPlot, low, high, latest.current.limit, fromZero) },
    },
    axes: [
      {
        ...axis,
        size: 30,
        space: 64,
        values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : at(tick))),
      },
      {
        ...axis,
        size: 66,
        space: 34,
        values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : format(tick))),
      },
    ],
    series: [
      {},
      ...lines.map((line, index) => ({
        label: line.label,
        stroke:
          colour(`--series-${tone(line, index) + 1}`) +
          (line.look === "raw" && lines.length > 1 ? "66" : ""),
        width: line.look === "raw" ? 1 : 2,
        dash: dash(line, index),
        spanGaps: true,
        points: { show: line.look === "points" || line.x.length < 2, size: 7 },
      })),
    ],
    hooks: {
      draw: [(plot) => drawExtras(plot, latest.current, ink)],
      setCursor: [(plot) => onCursor(plot.cursor.left >= 0 ? (plot.cursor.idx ?? null) : null)],
    },
    plugins: [],
  };
}

/** The levels that are drawn: those of the lines, a limit, and zero where a share of something is meant. */
function range(UPlot, low, high, limit, fromZero) {
  if (low === null) return [0, 1];
  const top = limit ? Math.max(high, limit.value) : high;
  if (fromZero) return [0, top * 1.08 || 1];
  return UPlot.rangeNum(low, top, 0.08, true);
}

const SIGNS = {
  checkpoint: "●",
  evaluated: "◆",
  evaluation: "◆",
  warning: "▲",
  notice: "·",
  paused: "‖",
  resumed: "▸",
};

/** Thin lines where something happened, with a sign on top; a level such as predicted memory. */
function drawExtras(plot, { markers, limit }, ink) {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio || 1;
  ctx.save();
  ctx.strokeStyle = ink;
  ctx.fillStyle = ink;
  ctx.lineWidth = ratio;
  ctx.font = `${10 * ratio}px sans-serif`;
  ctx.textAlign = "center";
  ctx.globalAlpha = 0.55;
  ctx.setLineDash([2 * ratio, 4 * ratio]);
  for (const { x, kind } of markers) {
    const left = plot.valToPos(x, "x", true);
    if (left < bbox.left || left > bbox.left + bbox.width) continue;
    ctx.beginPath();
    ctx.moveTo(left, bbox.top + 12 * ratio);
    ctx.lineTo(left, bbox.top + bbox.height);
    ctx.stroke();
    ctx.fillText(SIGNS[kind] ?? "·", left, bbox.top + 9 * ratio);
  }
  if (limit) {
    const top = plot.valToPos(limit.value, "y", true);
    ctx.setLineDash([8 * ratio, 4 * ratio]);
    ctx.globalAlpha = 0.9;
    ctx.beginPath();
    ctx.moveTo(bbox.left, top);
    ctx.lineTo(bbox.left + bbox.width, top);
    ctx.stroke();
  }
  ctx.restore();
}

const Twin = ({ title, lines, data, format, xLabel, at }) => html`
  <div class="scroll-x" tabindex="0" role="region" aria-label=${title}>
    <table>
      <caption class="unseen">${title}</caption>
      <thead>
        <tr>
          <th scope="col">${xLabel}</th>
          ${lines.map(
            (line) => html`
              <th scope="col" class="num" key=${line.label}>${line.label}</th>
            `,
          )}
        </tr>
      </thead>
      <tbody>
        ${spread(data[0].length, ROWS).map(
          (row) => html`
            <tr key=${row}>
              <th scope="row">${at(data[0][row])}</th>
              ${lines.map(
                (line, index) => html`
                  <td class="num" key=${line.label}>
                    ${data[index + 1][row] === null ? "" : format(data[index + 1][row])}
                  </td>
                `,
              )}
            </tr>
          `,
        )}
      </tbody>
    </table>
  </div>
`;

export function download(name, text) {
  const link = Object.assign(document.createElement("a"), {
    href: URL.createObjectURL(new Blob([text])),
    download: name,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
