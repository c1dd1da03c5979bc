// Starts the page: language, session, then the view of the address.
import { html, render, useEffect, useState } from "./lib.js";
import { get, rememberCsrf, whenLoggedOut } from "./api.js";
import { loadLanguage, preferred, store, t } from "./i18n.js";
import { parse, useRoute } from "./route.js";
import { ErrorNote, Loading } from "./parts/basic.js";
import { Shell } from "./shell.js";

const VIEWS = {
  "": () => import("./views/home.js"),
  models: () => import("./views/models.js"),
  model: () => import("./views/model.js"),
  data: () => import("./views/data.js"),
  file: () => import("./views/file.js"),
  new: () => import("./views/new.js"),
  jobs: () => import("./views/jobs.js"),
  compare: () => import("./views/compare.js"),
  job: () => import("./views/job.js"),
  chat: () => import("./views/chat.js"),
  settings: () => import("./views/settings.js"),
};

function App() {
  const route = useRoute();
  const [session, setSession] = useState(null);
  const [error, setError] = useState(null);
  const [, redraw] = useState(0);
  const ask = async (asked) => {
    try {
      const found = await (asked ?? get("api/session"));
      rememberCsrf(found.csrf);
      setSession(found);
      setError(null);
    } catch (failed) {
      setError(failed);
    }
  };
  useEffect(() => {
    whenLoggedOut(() => setSession((old) => ({ ...old, authenticated: false })));
    ask(early);
  }, []);
  const changeLanguage = async (wish) => {
    store("language", wish);
    await loadLanguage(wish);
    redraw((turn) => turn + 1);
  };
  if (error)
    return html`
      <main class="main stack">
        <h1>luthier</h1>
        <${ErrorNote} error=${error} />
      </main>
    `;
  if (!session)
    return html`
      <${Loading} />
    `;
  if (!session.authenticated)
    return html`
      <${View}
        load=${() => import("./views/login.js")}
        name="login"
        onDone=${() => ask()}
        changeLanguage=${changeLanguage}
      />
    `;
  const [name = "", ...rest] = route.parts;
  const load = VIEWS[name] ?? (() => import("./views/missing.js"));
  return html`<${Shell} view=${name} version=${session.version}>
    <${View} key=${[name, ...rest.slice(0, 1)].join("/")} load=${load} name=${name} route=${route}
      session=${session} ask=${() => ask()} changeLanguage=${changeLanguage} />
  </${Shell}>`;
}

/** A view and its module, which is fetched when it is first needed. */
function View({ load, name, ...rest }) {
  const [loaded, setLoaded] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    let wanted = true;
    load().then(
      (module) => wanted && setLoaded({ name, Part: module.default }),
      (failed) => wanted && setError({ message: failed.message, fix: t("error.reload") }),
    );
    return () => {
      wanted = false;
    };
  }, [name]);
  if (error)
    return html`
      <${ErrorNote} error=${error} />
    `;
  return loaded && loaded.name === name
    ? html`
        <${loaded.Part} ...${rest} />
      `
    : html`
        <${Loading} />
      `;
}

// Asked for at once: language, session and the first view arrive side by side.
const early = get("api/session");
const [first = ""] = parse(location.hash).parts;
const ignored = () => null; // whoever uses them is told
early.catch(ignored);
VIEWS[first]?.().catch(ignored);
await loadLanguage(preferred());
render(
  html`
    <${App} />
  `,
  document.getElementById("app"),
);
