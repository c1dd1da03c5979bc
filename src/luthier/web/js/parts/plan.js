// The live column: what the job will take, what `auto` became, what the advisor would do.
import { html, useEffect, useState } from "../lib.js";
import { post } from "../api.js";
import { bytes, duration, language, number, t } from "../i18n.js";
import { Batches } from "./batches.js";
import { Button, CodeBlock, ErrorNote, MarkBadge } from "./basic.js";
import { link } from "../route.js";
import { shown } from "./job_tabs.js";

const FORMS = ["cli", "yaml", "python", "openai", "curl"];
const LIMIT = 7;

export function Live({ form, settings, set }) {
  const [plan, error, busy] = useAnswer("api/plan", form.data && form.model ? { settings } : null);
  const [advice, adviceError] = useAnswer(
    "api/advise",
    form.data && form.model
      ? {
          model: form.model,
          file_ids: [form.data],
          goal: form.objective === "dpo" ? "preference" : undefined,
          lang: language(),
        }
      : null,
  );
  return html`
    <aside class="live stack" aria-label=${t("plan.title")}>
      <section class=${`card stack ${busy && plan ? "stale" : ""}`} aria-busy=${busy}>
        <div class="card-head">
          <h2>${t("plan.title")}</h2>
          ${
            plan &&
            html`
              <${MarkBadge} mark=${plan.verdict} />
            `
          }
        </div>
        ${
          !form.data &&
          html`
            <p class="muted small">${t("plan.waiting")}</p>
          `
        }
        <${ErrorNote} error=${error} />
        ${
          error?.code === "E205" &&
          html`
            <p>
              <a class="button small" href=${link("file", form.data)}>${t("columns.remedy")}</a>
            </p>
          `
        }
        ${
          plan &&
          html`
            <${Memory} plan=${plan} />
            <${Numbers} plan=${plan} />
            <${Changes} plan=${plan} set=${set} />
          `
        }
        ${
          form.data &&
          !plan &&
          !error &&
          html`
            <p class="muted small" role="status">${t("plan.working")}</p>
          `
        }
      </section>
      ${
        plan &&
        html`
          <${Batches} settings=${settings} set=${set} />
          <${Chosen} chosen=${plan.chosen} />
        `
      }
      ${
        plan?.commands &&
        html`
          <${Commands} commands=${plan.commands} />
        `
      }
      ${
        advice &&
        html`
          <${Advice} advice=${advice} set=${set} />
        `
      }
      ${
        adviceError?.message !== error?.message &&
        html`
          <${ErrorNote} error=${adviceError} title=${t("advice.title")} />
        `
      }
    </aside>
  `;
}

/** The answer to the latest question, asked half a second after the last change. */
function useAnswer(path, question) {
  const [state, setState] = useState([null, null, false]);
  const text = question && JSON.stringify(question);
  useEffect(() => {
    if (!text) return void setState([null, null, false]);
    const leave = new AbortController();
    setState(([answer, error]) => [answer, error, true]);
    const timer = setTimeout(() => {
      post(path, JSON.parse(text), { signal: leave.signal }).then(
        (answer) => setState([answer, null, false]),
        (error) => error.name !== "AbortError" && setState([null, error, false]),
      );
    }, 400);
    return () => {
      clearTimeout(timer);
      leave.abort();
    };
  }, [path, text]);
  return state;
}

function Memory({ plan }) {
  const total = plan.device?.memory_bytes ?? plan.peak_bytes + Math.max(0, plan.margin_bytes ?? 0);
  const sorted = Object.entries(plan.parts ?? {})
    .filter(([, size]) => size > 0)
    .sort((one, other) => other[1] - one[1]);
  const parts =
    sorted.length > LIMIT
      ? [
          ...sorted.slice(0, LIMIT - 1),
          ["other", sorted.slice(LIMIT - 1).reduce((sum, [, size]) => sum + size, 0)],
        ]
      : sorted;
  const sum = parts.reduce((all, [, size]) => all + size, 0);
  const full = Math.max(total, sum);
  return html`
    <div class="stack tight">
      <div class="row between">
        <span class="small muted">${plan.device?.name ?? t("plan.peak")}</span>
        <span class="small">${t("of", { used: bytes(plan.peak_bytes), total: bytes(total) })}</span>
      </div>
      <div
        class="meter tall"
        role="img"
        aria-label=${t("plan.bar", { used: bytes(plan.peak_bytes), total: bytes(total) })}
      >
        ${parts.map(
          ([name, size], index) => html`
            <span
              key=${name}
              class=${`c${index + 1}`}
              style=${{ width: `${(size / full) * 100}%` }}
            ></span>
          `,
        )}
      </div>
      <ul class="parts">
        ${parts.map(
          ([name, size], index) => html`
            <li key=${name}>
              <span class=${`swatch c${index + 1}`}></span>
              <span>${partName(name)}</span>
              <span class="num">${bytes(size)}</span>
            </li>
          `,
        )}
      </ul>
    </div>
  `;
}

const PARTS = [
  "weights",
  "quantisation",
  "adapters",
  "gradients",
  "optimiser",
  "activations",
  "head",
  "workspace",
  "runtime",
  "other",
];
const partName = (name) => (PARTS.includes(name) ? t(`part.${name}`) : name);

function Numbers({ plan }) {
  const seconds = Array.isArray(plan.seconds)
    ? plan.seconds
    : [plan.seconds?.low, plan.seconds?.mid, plan.seconds?.high];
  const rows = [
    [
      t("plan.time"),
      seconds[1] !== undefined &&
        seconds[1] !== null &&
        t("plan.range", {
          mid: duration(seconds[1]),
          low: duration(seconds[0]),
          high: duration(seconds[2]),
        }),
    ],
    [t("plan.steps"), plan.steps && number(plan.steps)],
    [t("plan.tokens"), plan.tokens && number(plan.tokens)],
    [t("plan.disk"), plan.disk_bytes && bytes(plan.disk_bytes)],
    [t("plan.host"), plan.host_bytes && bytes(plan.host_bytes)],
  ];
  return html`
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
    ${[...(plan.notes ?? []), ...(plan.warnings ?? [])].map(
      (text, index) => html`
        <div key=${index} class="note small" lang="en">${text}</div>
      `,
    )}
  `;
}

const Changes = ({ plan, set }) =>
  plan.verdict !== "fits" &&
  plan.changes?.length > 0 &&
  html`
    <div class="stack tight">
      <h3>${t("plan.changes")}</h3>
      <ul class="reasons">
        ${plan.changes.map(
          (change, index) => html`<li key=${index} class="stack tight">
    <code>${Object.entries(change.settings)
      .map(([name, value]) => `${name}: ${shown(value)}`)
      .join(", ")}</code>
    <span>${t("plan.saves", { size: bytes(change.saves_bytes) })} <span class="muted" lang="en">
      ${change.costs}</span></span>
    <span><${Button} kind="small" onClick=${() => set(change.settings)}>${t("apply")}</${Button}></span>
      </li>`,
        )}
      </ul>
    </div>
  `;

const Chosen = ({ chosen }) =>
  chosen &&
  Object.keys(chosen).length > 0 &&
  html`
    <details class="card" open>
      <summary class="strong">${t("plan.chosen")}</summary>
      <ul class="reasons">
        ${Object.entries(chosen).map(
          ([name, [value, reason]]) => html`
            <li key=${name}>
              <code>${name}</code>
              ${" = "}
              <strong>${shown(value)}</strong>
              <div class="muted" lang="en">${reason}</div>
            </li>
          `,
        )}
      </ul>
    </details>
  `;

function Advice({ advice, set }) {
  const reasons = [...(advice.remarks ?? []), ...(advice.reasons ?? [])];
  if (!reasons.length) return null;
  return html`<section class="card stack"><div class="card-head"><h2>${t("advice.title")}</h2>
    <${Button} kind="small" onClick=${() => set(advisable(advice.settings))}>${t("advice.apply")}
    </${Button}></div>
    <ul class="reasons">${reasons.map(
      (reason, index) => html`
        <li key=${index}>
          ${
            reason.setting &&
            html`
              <code>${reason.setting}</code>
            `
          }${
            reason.setting &&
            reason.value !== undefined &&
            reason.value !== null &&
            html`
              ${" = "}
              <strong>${shown(reason.value)}</strong>
            `
          }
          <div class="muted">${reason.text ?? reason.code}</div>
          ${
            reason.source?.title &&
            html`
              <div class="small muted" lang="en">${reason.source.title}</div>
            `
          }
        </li>
      `,
    )}</ul></section>`;
}

const advisable = (settings) =>
  Object.fromEntries(
    Object.entries(settings ?? {}).filter(
      ([name]) => !["model", "dataset", "output_dir"].includes(name),
    ),
  );

function Commands({ commands }) {
  const [form, setForm] = useState("cli");
  const there = FORMS.filter((one) => commands[one]);
  const text = commands[form] ?? "";
  return html`
    <section class="card stack">
      <h2>${t("plan.commands")}</h2>
      <div class="row" role="group" aria-label=${t("plan.commands")}>
        ${there.map(
          (one) => html`<${Button} key=${one} kind="small" aria-pressed=${one === form}
          onClick=${() => setForm(one)}>${t(`command.${one}`)}</${Button}>`,
        )}
      </div>
      <${CodeBlock} label=${t(`command.${form}`)} text=${text} />
    </section>
  `;
}
