// Small parts that every page uses.
import { html, useEffect, useRef, useState } from "../lib.js";
import { bytes, known, percent, t } from "../i18n.js";
import { Icon } from "./icons.js";

/** Heading of a view.  It takes the focus when the view appears, so that a screen reader says it. */
export function PageHead({ title, lead, children }) {
  const heading = useRef();
  useEffect(() => {
    document.title = `${title} · luthier`;
    heading.current.focus({ preventScroll: true });
  }, [title]);
  return html`
    <header class="page-head">
      <div>
        <h1 tabindex="-1" ref=${heading}>${title}</h1>
        ${
          lead &&
          html`
            <p class="muted">${lead}</p>
          `
        }
      </div>
      ${
        children &&
        html`
          <div class="row">${children}</div>
        `
      }
    </header>
  `;
}

export const Button = ({ icon, kind = "", children, ...rest }) => html`
  <button type="button" class=${`button ${kind}`} ...${rest}>
    ${
      icon &&
      html`
        <${Icon} name=${icon} small />
      `
    }${children}
  </button>
`;

export const LinkButton = ({ icon, kind = "", children, ...rest }) => html`
  <a class=${`button ${kind}`} ...${rest}>
    ${
      icon &&
      html`
        <${Icon} name=${icon} small />
      `
    }${children}
  </a>
`;

/** An error as the server said it: the translation first where there is one, the original below. */
export function ErrorNote({ error, title }) {
  if (!error) return null;
  const key = `error.${error.code}`;
  const translated = known(key) ? t(key, error.params) : null;
  return html`
    <div class="note bad stack tight" role="alert">
      <div class="strong">${translated ?? title ?? t("error.title")}</div>
      <div lang="en">${error.message ?? error.what}</div>
      ${
        error.why &&
        html`
          <div class="small" lang="en">${error.why}</div>
        `
      }
      ${
        error.fix &&
        html`
          <div class="fix" lang="en">${error.fix}</div>
        `
      }
    </div>
  `;
}

/** Help as it is written beside the setting: what stands between back quotes is code. */
export const Prose = ({ text }) =>
  String(text ?? "")
    .split("`")
    .map((part, index) =>
      index % 2
        ? html`
            <code key=${index}>${part}</code>
          `
        : part,
    );

export const Loading = () => html`
  <div class="loading" role="status">${t("loading")}</div>
`;

export const Empty = ({ icon, title, children, action }) => html`
  <div class="card empty">
    <${Icon} name=${icon} />
    <h2>${title}</h2>
    <p>${children}</p>
    ${action}
  </div>
`;

const LOOKS = {
  created: "",
  queued: "info",
  starting: "live",
  running: "live",
  saving: "live",
  pausing: "warn",
  paused: "warn",
  finished: "ok",
  failed: "bad",
  cancelled: "",
};

export const StateBadge = ({ state }) => html`
  <span class=${`badge ${LOOKS[state] ?? ""}`}>${t(`state.${state}`)}</span>
`;

const MARKS = { fits: ["ok", "check"], tight: ["warn", "warn"], no: ["bad", "cross"] };

export function MarkBadge({ mark, label, peak }) {
  const [look, icon] = MARKS[mark] ?? ["", "info"];
  const text = t(`mark.${mark ?? "unknown"}`);
  const title = peak ? `${label ? `${label}: ` : ""}${text}, ${bytes(peak)}` : text;
  return html`
    <span class=${`badge ${look}`} title=${title}>
      <${Icon} name=${icon} small />
      ${label}
      <span class=${label ? "unseen" : ""}>${label ? ` ${text}` : text}</span>
    </span>
  `;
}

/** A bar with its words: the share is said, not only drawn. */
export function Meter({ label, used, total, format = bytes, text }) {
  const share = total > 0 ? Math.min(1, used / total) : 0;
  return html`
    <div class="stack tight">
      <div class="row between small">
        <span class="muted">${label}</span>
        <span>${text ?? t("of", { used: format(used), total: format(total) })}</span>
      </div>
      <div class="meter" role="img" aria-label=${`${label}: ${percent(share)}`}>
        <span style=${{ width: `${share * 100}%` }}></span>
      </div>
    </div>
  `;
}

export function CopyButton({ text, label }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    setDone(await copied(text));
    setTimeout(() => setDone(false), 2000);
  };
  return html`<${Button} kind="small" icon=${done ? "check" : "copy"} onClick=${copy}>${
    done ? t("copied") : (label ?? t("copy"))
  }</${Button}>`;
}

async function copied(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return true;
  }
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

export const CodeBlock = ({ text, label }) => html`
  <div class="stack tight">
    <div class="row between">
      <span class="small muted">${label}</span>
      <${CopyButton} text=${text} />
    </div>
    <pre class="code" tabindex="0" role="region" aria-label=${label}>${text}</pre>
  </div>
`;

/** A question before something is lost. */
export function Confirm({ title, text, action, onYes, onNo }) {
  const box = useRef();
  useEffect(() => box.current.showModal(), []);
  return html`<dialog ref=${box} onClose=${onNo} aria-labelledby="confirm-title">
    <div class="stack">
      <h2 id="confirm-title">${title}</h2>
      <p>${text}</p>
      <div class="row">
        <${Button} kind="main-action" onClick=${onYes}>${action}</${Button}>
        <${Button} onClick=${() => box.current.close()}>${t("back")}</${Button}>
      </div>
    </div>
  </dialog>`;
}

/** Words for screen readers and eyes: appears, is read, goes. */
export function toast(text) {
  dispatchEvent(new CustomEvent("luthier-toast", { detail: text }));
}

export function Toasts() {
  const [texts, setTexts] = useState([]);
  useEffect(() => {
    const hear = (event) => {
      const one = { text: event.detail, id: Math.random() };
      setTexts((old) => [...old.slice(-2), one]);
      setTimeout(() => setTexts((old) => old.filter((other) => other !== one)), 6000);
    };
    addEventListener("luthier-toast", hear);
    return () => removeEventListener("luthier-toast", hear);
  }, []);
  return html`
    <div class="toasts" role="status" aria-live="polite">
      ${texts.map(
        ({ text, id }) => html`
          <div class="toast" key=${id}>${text}</div>
        `,
      )}
    </div>
  `;
}
