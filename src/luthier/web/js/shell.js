// The frame around every view: where you are, where you can go.
import { html } from "./lib.js";
import { t } from "./i18n.js";
import { link } from "./route.js";
import { Toasts } from "./parts/basic.js";
import { Icon } from "./parts/icons.js";

const PLACES = ["home", "models", "data", "jobs", "chat", "settings"];
const BELONGS = {
  "": "home",
  model: "models",
  file: "data",
  new: "jobs",
  job: "jobs",
  compare: "jobs",
};

export function Shell({ view, version, children }) {
  const here = BELONGS[view] ?? view;
  return html`
    <div class="shell">
      <a class="skip" href="#main" onClick=${toMain}>${t("nav.skip")}</a>
      <aside class="side">
        <a class="brand" href=${link()}>
          <img src="icon.svg" alt="" />
          luthier
        </a>
        <nav aria-label=${t("nav.label")}>
          ${PLACES.map(
            (place) => html`
              <a
                key=${place}
                href=${place === "home" ? link() : link(place)}
                aria-current=${place === here ? "page" : undefined}
              >
                <${Icon} name=${place} />
                <span>${t(`nav.${place}`)}</span>
              </a>
            `,
          )}
        </nav>
        <a class="button main-action new" href=${link("new")}>
          <${Icon} name="plus" small />
          ${t("nav.new")}
        </a>
        <div class="foot small muted">${version}</div>
      </aside>
      <main class="main" id="main" tabindex="-1">${children}</main>
    </div>
    <${Toasts} />
  `;
}

/** The address names views, so the jump to the content is made by hand. */
function toMain(event) {
  event.preventDefault();
  document.getElementById("main").querySelector("h1")?.focus();
}
