// The gallery: what can be tuned, and what fits this machine.
import { html, useState } from "../lib.js";
import { useData } from "../api.js";
import { context, parameters, t } from "../i18n.js";
import { link, replace } from "../route.js";
import { Empty, ErrorNote, Loading, MarkBadge, PageHead } from "../parts/basic.js";

export const METHODS = ["full", "lora", "qlora"];

export default function Models({ route }) {
  const { data, error } = useData("api/gallery");
  const [filter, setFilter] = useState({ q: "", fits: "", family: "", ...route.query });
  const change = (part) => {
    const next = { ...filter, ...part };
    setFilter(next);
    replace("models", next);
  };
  const models = data?.models ?? [];
  const families = [...new Set(models.map((model) => model.family))].sort();
  const shown = models
    .filter((model) => matches(model, filter))
    .sort((one, other) => Number(other.local) - Number(one.local));
  return html`
    <${PageHead} title=${t("models.title")} lead=${t("models.lead")} />
    <${ErrorNote} error=${error} />
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
      <div class="field grow">
        <label for="find">${t("models.find")}</label>
        <input
          id="find"
          type="search"
          class="input"
          value=${filter.q}
          onInput=${(event) => change({ q: event.target.value })}
        />
      </div>
      <div class="field">
        <label for="family">${t("models.family")}</label>
        <select
          id="family"
          class="input"
          value=${filter.family}
          onChange=${(event) => change({ family: event.target.value })}
        >
          <option value="">${t("all")}</option>
          ${families.map(
            (family) => html`
              <option key=${family}>${family}</option>
            `,
          )}
        </select>
      </div>
      <div class="field">
        <label for="fits">${t("models.fits")}</label>
        <select
          id="fits"
          class="input"
          value=${filter.fits}
          onChange=${(event) => change({ fits: event.target.value })}
        >
          <option value="">${t("all")}</option>
          ${METHODS.map(
            (method) => html`
              <option key=${method} value=${method}>${method}</option>
            `,
          )}
        </select>
      </div>
    </form>
    ${
      !data &&
      !error &&
      html`
        <${Loading} />
      `
    }
    ${
      data &&
      html`
        <p class="small muted" role="status">${t("models.count", { count: shown.length })}</p>
      `
    }
    ${
      data &&
      !shown.length &&
      html`<${Empty} icon="models" title=${t("models.none")}>
      ${t("models.none.text")}</${Empty}>`
    }
    <div class="grid models">
      ${shown.map(
        (model) => html`
          <${Card} key=${model.name} model=${model} />
        `,
      )}
    </div>
  `;
}

function matches(model, { q, fits, family }) {
  const text = [model.name, model.title, model.family, model.hub, model.licence]
    .join(" ")
    .toLowerCase();
  const mark = fits && model.marks?.[fits]?.mark;
  return (
    text.includes(q.toLowerCase()) &&
    (!fits || mark === "fits" || mark === "tight") &&
    (!family || model.family === family)
  );
}

const Card = ({ model }) => html`
  <article class="card stack model-card">
    <div class="stack tight">
      <h2><a href=${link("model", model.name)}>${model.name}</a></h2>
      <div class="small muted">
        ${[
          model.title,
          t("models.parameters", { size: parameters(model.parameters) }),
          model.context && t("models.context", { size: context(model.context) }),
          model.licence,
        ]
          .filter(Boolean)
          .join(" · ")}
      </div>
    </div>
    <div class="row">
      ${
        model.local &&
        html`
          <span class="badge info">${t("models.local")}</span>
        `
      }
      ${
        model.gated &&
        html`
          <span class="badge warn">${t("models.gated")}</span>
        `
      }
      ${
        model.trains === false &&
        html`
          <span class="badge bad">${t("models.untrained")}</span>
        `
      }
      ${
        ["weights", "architecture"].includes(model.tested) &&
        html`
          <span class="badge">${t(`tested.${model.tested}`)}</span>
        `
      }
    </div>
    <div class="row">
      <div class="row model-marks" role="group" aria-label=${t("models.fit")}>
        ${
          model.marks &&
          METHODS.map(
            (method) => html`
              <${MarkBadge}
                key=${method}
                label=${method}
                mark=${model.marks?.[method]?.mark}
                peak=${model.marks?.[method]?.peak_bytes}
              />
            `,
          )
        }
      </div>
      <a class="button small" href=${link("new", { model: model.name })}>
        ${t("models.tune")}
        <span class="unseen">${" "}${model.name}</span>
      </a>
    </div>
  </article>
`;
