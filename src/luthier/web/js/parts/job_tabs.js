// What stands behind the tabs of a job, charts excepted.
import { html, useEffect, useRef, useState } from "../lib.js";
import { get, useData } from "../api.js";
import { bytes, clock, figure, moment, number, t } from "../i18n.js";
import { link } from "../route.js";
import { Empty, ErrorNote, Loading } from "./basic.js";

export function Checkpoints({ path, turn, base }) {
  const { data, error, again } = useData(`${path}/checkpoints`);
  useEffect(() => void again(), [turn]);
  const list = data?.data ?? [];
  if (error)
    return html`
      <${ErrorNote} error=${error} />
    `;
  if (!data)
    return html`
      <${Loading} />
    `;
  if (!list.length)
    return html`<${Empty} icon="flag" title=${t("checkpoints.none")}>${t("checkpoints.none.text")}
      </${Empty}>`;
  return html`
    <div class="card flush scroll-x">
      <table class="cards">
        <thead>
          <tr>
            <th scope="col">${t("chart.step")}</th>
            <th scope="col">${t("line.eval_loss")}</th>
            <th scope="col" class="num">${t("data.size")}</th>
            <th scope="col">${t("checkpoints.time")}</th>
            <th scope="col"><span class="unseen">${t("actions")}</span></th>
          </tr>
        </thead>
        <tbody>
          ${list.map(
            (one) => html`
              <tr key=${one.id}>
                <th scope="row">${number(one.step_number)}</th>
                <td data-label=${t("line.eval_loss")}>${figure(one.metrics.valid_loss)}</td>
                <td class="num" data-label=${t("data.size")}>${bytes(one.luthier?.bytes)}</td>
                <td data-label=${t("checkpoints.time")}>${moment(one.created_at)}</td>
                <td>
                  <a href=${link("chat", { left: base, right: one.fine_tuned_model_checkpoint })}>
                    ${t("job.try")}
                    <span class="unseen">${" "}${number(one.step_number)}</span>
                  </a>
                </td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `;
}

export function Samples({ samples }) {
  if (!samples)
    return html`
      <${Loading} />
    `;
  if (!samples.length)
    return html`<${Empty} icon="chat" title=${t("samples.none")}>${t("samples.none.text")}</${Empty}>`;
  const prompts = [...new Set(samples.map((one) => one.prompt))];
  return html`
    <div class="samples">
      ${prompts.map(
        (prompt) => html`
          <section class="card stack" key=${prompt}>
            <h2>${prompt}</h2>
            ${
              samples.find((one) => one.prompt === prompt).expected &&
              html`
                <div class="sample">
                  <div class="small muted">${t("samples.expected")}</div>
                  <div>${samples.find((one) => one.prompt === prompt).expected}</div>
                </div>
              `
            }
            ${samples
              .filter((one) => one.prompt === prompt)
              .map(
                (one) => html`
                  <div class="sample" key=${one.step}>
                    <div class="small muted">${t("chart.step")} ${number(one.step)}</div>
                    <div>${one.answer}</div>
                  </div>
                `,
              )}
          </section>
        `,
      )}
    </div>
  `;
}

/** What happened and when, in the order of time: states with their reasons, and marks of the run. */
export function Course({ history, markers }) {
  const states = history.map(({ time, after, reason }) => ({
    time,
    what: t(`state.${after}`),
    text: reason,
  }));
  const marks = markers
    .filter((mark) => mark.time)
    .map(({ time, kind, step, text }) => ({
      time,
      what: t(`event.${kind}`),
      text: [Number.isFinite(step) && `step ${step}`, text].filter(Boolean).join(" · "),
    }));
  const rows = [...states, ...marks].sort((one, other) => one.time - other.time).slice(-200);
  if (!rows.length) return null;
  return html`
    <div class="card flush course" tabindex="0" role="region" aria-label=${t("logs.course")}>
      <table>
        <caption class="unseen">${t("logs.course")}</caption>
        <thead>
          <tr>
            <th scope="col">${t("logs.time")}</th>
            <th scope="col">${t("logs.event")}</th>
            <th scope="col">${t("logs.text")}</th>
          </tr>
        </thead>
        <tbody>
          ${rows.map(
            (row, index) => html`
              <tr key=${index}>
                <td class="nowrap small">${clock(row.time)}</td>
                <td>${row.what}</td>
                <td class="small muted" lang="en">${row.text}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `;
}

const KEPT = 400_000;

export function Log({ path, live }) {
  const [text, setText] = useState("");
  const [error, setError] = useState(null);
  const next = useRef(0);
  const box = useRef();
  useEffect(() => {
    let wanted = true;
    let timer = null;
    const read = async () => {
      try {
        const part = await get(`${path}/logs?after=${next.current}&limit=200000`);
        if (!wanted) return;
        next.current = part.next;
        if (part.text) setText((old) => (old + part.text).slice(-KEPT));
        setError(null);
        if (part.next < part.size) return void (timer = setTimeout(read, 0));
      } catch (failed) {
        setError(failed);
      }
      if (wanted && live) timer = setTimeout(read, 2000);
    };
    read();
    return () => {
      wanted = false;
      clearTimeout(timer);
    };
  }, [path, live]);
  useEffect(() => {
    const { current } = box;
    if (current && current.scrollHeight - current.scrollTop - current.clientHeight < 200)
      current.scrollTop = current.scrollHeight;
  }, [text]);
  return html`
    <${ErrorNote} error=${error} />
    <pre
      class="log"
      ref=${box}
      tabindex="0"
      role="log"
      aria-live="off"
      aria-label=${t("job.tab.logs")}
    >
${plain(text) || t("logs.none")}</pre>
  `;
}

/** Colours of a terminal are dropped, and of a line drawn over itself the last form stays. */
function plain(text) {
  return text
    .replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "")
    .split("\n")
    .map((line) => line.replace(/\r$/, "").split("\r").at(-1))
    .join("\n");
}

export function SettingsTable({ detail }) {
  const origin = detail.provenance ?? {};
  const rows = Object.entries(detail.settings ?? {});
  return html`
    <div class="card flush scroll-x">
      <table class="cards">
        <thead>
          <tr>
            <th scope="col">${t("settings.name")}</th>
            <th scope="col">${t("settings.value")}</th>
            <th scope="col">${t("settings.origin")}</th>
          </tr>
        </thead>
        <tbody>
          ${rows.map(
            ([name, value]) => html`
              <tr key=${name}>
                <th scope="row" class="setting-name">${name}</th>
                <td class="mono">${shown(value)}</td>
                <td class="small muted" lang="en">${origin[name] ?? ""}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `;
}

export const shown = (value) =>
  value === null || value === undefined
    ? "–"
    : typeof value === "object"
      ? JSON.stringify(value)
      : String(value);

export function Files({ path, turn }) {
  const { data, error, again } = useData(`${path}/files`);
  useEffect(() => void again(), [turn]);
  const list = (data?.files ?? []).filter((file) => file.bytes !== null);
  if (error)
    return html`
      <${ErrorNote} error=${error} />
    `;
  if (!data)
    return html`
      <${Loading} />
    `;
  if (!list.length)
    return html`<${Empty} icon="data" title=${t("files.none")}>${t("files.none.text")}</${Empty}>`;
  const address = (name) => `${path}/files/${name.split("/").map(encodeURIComponent).join("/")}`;
  return html`
    <div class="card flush scroll-x">
      <table class="cards">
        <thead>
          <tr>
            <th scope="col">${t("data.name")}</th>
            <th scope="col" class="num">${t("data.size")}</th>
          </tr>
        </thead>
        <tbody>
          ${list.map(
            (file) => html`
              <tr key=${file.path}>
                <th scope="row">
                  <a class="mono" href=${address(file.path)} download>${file.path}</a>
                </th>
                <td class="num">${bytes(file.bytes)}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `;
}
