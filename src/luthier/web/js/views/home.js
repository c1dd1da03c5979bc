// What the machine does now, and what to do next.
import { html, useState } from "../lib.js";
import { useData } from "../api.js";
import { ago, bytes, number, percent, t } from "../i18n.js";
import { link } from "../route.js";
import { ErrorNote, LinkButton, Loading, Meter, PageHead, StateBadge } from "../parts/basic.js";
import { Progress, useSteps } from "../parts/progress.js";

const ACTIVE = ["starting", "running", "saving", "pausing"];

export default function Home() {
  const first = useData("api/machine", { every: 5000 });
  const jobs = useData("api/jobs?limit=20", { every: 5000 });
  const [told, setTold] = useState(null);
  const steps = useSteps((name, data) => (name === "machine" ? setTold(data) : jobs.again()));
  const machine = told?.devices ? told : first.data;
  const list = jobs.data?.jobs ?? [];
  const active = list.filter((job) => ACTIVE.includes(job.state));
  const waiting = list.filter((job) => job.state === "queued");
  const ended = list
    .filter((job) => ["finished", "failed", "paused"].includes(job.state))
    .slice(0, 5);
  return html`<${PageHead} title=${t("home.title")} lead=${t("home.lead")}>
      <${LinkButton} kind="main-action" icon="plus" href=${link("new")}>${t("nav.new")}</${LinkButton}>
    </${PageHead}>
    <${ErrorNote} error=${first.error ?? jobs.error} />
    ${
      machine
        ? html`
            <${Machine} machine=${machine} jobs=${list} />
          `
        : html`
            <${Loading} />
          `
    }
    ${
      jobs.data &&
      !list.length &&
      html`
        <${Start} />
      `
    }
    <div class="grid two home-lists">
      ${
        list.length > 0 &&
        html`
          <${JobList}
            title=${t("home.running")}
            jobs=${active}
            none=${t("home.idle")}
            steps=${steps}
          />
        `
      }
      ${
        waiting.length > 0 &&
        html`
          <${JobList} title=${t("home.waiting")} jobs=${waiting} />
        `
      }
      ${
        ended.length > 0 &&
        html`
          <${JobList} title=${t("home.results")} jobs=${ended} />
        `
      }
    </div>`;
}

function Machine({ machine, jobs }) {
  const busy =
    machine.devices.find((device) => device.kind === "cpu")?.utilisation ??
    machine.host.cpu_percent;
  const holder = (id) => jobs.find((job) => job.id === id);
  return html`
    <section class="grid" aria-label=${t("home.machine")}>
      ${machine.devices.map(
        (device) => html`
          <${Device} key=${device.id} device=${device} holder=${holder(device.held_by)} />
        `,
      )}
      <div class="card stack">
        <h2>${t("home.host")}</h2>
        <${Meter}
          label=${t("home.memory")}
          used=${machine.host.used_bytes}
          total=${machine.host.memory_bytes}
        />
        <${Meter}
          label=${t("home.processor")}
          used=${busy}
          total=${100}
          text=${percent(busy / 100)}
        />
        <${Meter}
          label=${t("home.disk")}
          used=${machine.disk.total_bytes - machine.disk.free_bytes}
          total=${machine.disk.total_bytes}
          text=${t("home.free", { size: bytes(machine.disk.free_bytes) })}
        />
      </div>
    </section>
  `;
}

function Device({ device, holder }) {
  const facts = [
    device.utilisation !== null &&
      device.utilisation !== undefined &&
      t("home.busy", { share: percent(device.utilisation / 100) }),
    device.celsius !== null &&
      device.celsius !== undefined &&
      `${number(device.celsius, { maximumFractionDigits: 0 })} °C`,
  ].filter(Boolean);
  return html`
    <div class="card stack">
      <div class="card-head">
        <h2>${device.name}</h2>
        <span class=${`badge ${device.held_by ? "live" : "ok"}`}>
          ${device.held_by ? t("home.taken") : t("home.available")}
        </span>
      </div>
      <${Meter}
        label=${t("home.memory")}
        used=${device.used_bytes ?? 0}
        total=${device.memory_bytes}
      />
      <div class="row small muted">${facts.join(" · ")}</div>
      ${
        device.held_by &&
        html`
          <div class="small">
            ${t("home.held")}${" "}${
              device.held_by === "chat"
                ? html`
                    <a href=${link("chat")}>${t("nav.chat")}</a>
                  `
                : holder
                  ? html`
                      <a href=${link("job", holder.id)}>${holder.name || holder.id}</a>
                    `
                  : html`
                      <span class="mono">${device.held_by}</span>
                    `
            }
          </div>
        `
      }
    </div>
  `;
}

const JobList = ({ title, jobs, none, steps = {} }) => html`
  <section class="card stack">
    <h2>${title}</h2>
    ${
      jobs.length === 0 &&
      html`
        <p class="muted">${none}</p>
      `
    }
    ${jobs.map(
      (job) => html`
        <div key=${job.id} class="stack tight">
          <div class="row between">
            <a class="strong" href=${link("job", job.id)}>${job.name || job.id}</a>
            <${StateBadge} state=${job.state} />
          </div>
          <div class="row between small muted">
            <span>${job.base}</span>
            <span>${ago(job.finished_at ?? job.started_at ?? job.created_at)}</span>
          </div>
          <${Progress} state=${job.state} progress=${steps[job.id]} />
        </div>
      `,
    )}
  </section>
`;

const STEPS = ["data", "new", "chat"];

const Start = () => html`
  <section class="card stack wide start">
    <h2>${t("home.start")}</h2>
    <ol class="grid">
      ${STEPS.map(
        (step) => html`
          <li key=${step} class="stack tight">
            <a class="strong" href=${link(step)}>${t(`home.start.${step}`)}</a>
            <span class="muted small">${t(`home.start.${step}.text`)}</span>
          </li>
        `,
      )}
    </ol>
  </section>
`;
