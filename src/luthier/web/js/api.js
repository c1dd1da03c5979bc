// The HTTP API, which anyone can use: the page has no private door.
import { useEffect, useRef, useState } from "./lib.js";

export class ApiError extends Error {
  constructor(status, body) {
    super(body.message ?? `HTTP ${status}`);
    this.status = status;
    this.code = body.code ?? null;
    this.why = body.why ?? "";
    this.fix = body.fix ?? "";
    this.param = body.param ?? null;
    this.params = body.params ?? {};
  }
}

let csrf = null;
let onLoggedOut = () => {};
export const whenLoggedOut = (action) => {
  onLoggedOut = action;
};
export const rememberCsrf = (token) => {
  csrf = token ?? csrf;
};

const headers = (more = {}) => (csrf ? { "X-CSRF-Token": csrf, ...more } : more);

async function failure(answer) {
  let body;
  try {
    body = (await answer.json()).error ?? {};
  } catch {
    body = { message: `${answer.status} ${answer.statusText}` };
  }
  if (answer.status === 401) onLoggedOut();
  return new ApiError(answer.status, body);
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body] Sent as JSON.
 * @param {{ signal?: AbortSignal, raw?: boolean }} [options] `raw` gives the response itself.
 */
export async function request(method, path, body, { signal, raw = false } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      headers: headers(body === undefined ? {} : { "Content-Type": "application/json" }),
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, {
      code: "offline",
      message: "the server does not answer",
      fix: "luthier serve",
    });
  }
  if (!answer.ok) throw await failure(answer);
  if (raw) return answer;
  const text = await answer.text();
  return text ? JSON.parse(text) : {};
}

export const get = (path, options) => request("GET", path, undefined, options);
export const post = (path, body = {}, options) => request("POST", path, body, options);
export const put = (path, body) => request("PUT", path, body);
export const patch = (path, body) => request("PATCH", path, body);
export const remove = (path) => request("DELETE", path);

export function query(path, values) {
  const kept = Object.entries(values).filter(
    ([, value]) => value !== undefined && value !== null && value !== "",
  );
  return kept.length ? `${path}?${new URLSearchParams(kept)}` : path;
}

/** Upload with progress, which fetch does not tell. */
export function upload(file, onProgress) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("purpose", "fine-tune");
    form.append("file", file);
    const call = new XMLHttpRequest();
    call.open("POST", "v1/files");
    for (const [name, value] of Object.entries(headers())) call.setRequestHeader(name, value);
    call.upload.onprogress = (event) =>
      event.lengthComputable && onProgress(event.loaded / event.total);
    call.onerror = () =>
      reject(
        new ApiError(0, {
          code: "offline",
          message: "the upload was cut off",
          fix: "luthier serve",
        }),
      );
    call.onload = () => {
      let body;
      try {
        body = JSON.parse(call.responseText);
      } catch {
        body = { error: { message: `${call.status} ${call.statusText}` } };
      }
      if (call.status >= 200 && call.status < 300) resolve(body);
      else reject(new ApiError(call.status, body.error ?? {}));
    };
    call.send(form);
  });
}

/** Data of an address: `{data, error, again}`.  Asks again every `every` milliseconds if given. */
export function useData(path, { every = 0 } = {}) {
  const [state, setState] = useState({ data: null, error: null, path });
  const turn = useRef(0);
  const again = async () => {
    if (!path) return;
    const mine = ++turn.current;
    try {
      const data = await get(path);
      if (mine === turn.current) setState({ data, error: null, path });
    } catch (error) {
      if (mine === turn.current)
        setState((old) => ({ data: old.path === path ? old.data : null, error, path }));
    }
  };
  useEffect(() => {
    again();
    const timer = every && setInterval(() => document.hidden || again(), every);
    return () => {
      turn.current++;
      clearInterval(timer);
    };
  }, [path, every]);
  return {
    data: state.path === path ? state.data : null,
    error: state.path === path ? state.error : null,
    again,
  };
}

/** Named server-sent events; `onEvent(name, data)` ends them by returning true.
 * The browser connects again by itself. */
export function useStream(path, names, onEvent) {
  const latest = useRef(onEvent);
  latest.current = onEvent;
  const [live, setLive] = useState(false);
  useEffect(() => {
    if (!path) return undefined;
    const source = new EventSource(path);
    source.onopen = () => setLive(true);
    source.onerror = () => setLive(false);
    for (const name of names)
      source.addEventListener(
        name,
        (event) =>
          latest.current(name, event.data ? JSON.parse(event.data) : {}) === true && source.close(),
      );
    return () => source.close();
  }, [path]);
  return live;
}

/** Lines of a streamed completion, as objects, until `[DONE]`. */
export async function* completion(body, signal) {
  const answer = await request(
    "POST",
    "v1/chat/completions",
    { ...body, stream: true, stream_options: { include_usage: true } },
    { signal, raw: true },
  );
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      const part = JSON.parse(data);
      if (part.error) throw new ApiError(answer.status, part.error);
      yield part;
    }
  }
}
