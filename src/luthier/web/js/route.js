// Addresses: everything a view needs to be drawn again is behind the '#'.
import { useEffect, useState } from "./lib.js";

export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  return { parts, query: Object.fromEntries(new URLSearchParams(query)), text: hash };
}

export function link(...parts) {
  const last = parts.at(-1);
  const query = last && typeof last === "object" ? parts.pop() : {};
  const kept = Object.entries(query).filter(
    ([, value]) => value !== undefined && value !== null && value !== "",
  );
  const text = new URLSearchParams(kept).toString();
  return `#/${parts.map((part) => encodeURIComponent(part)).join("/")}${text ? `?${text}` : ""}`;
}

export const go = (...parts) => {
  location.hash = link(...parts);
};

/** Change the address of the view that stands, without a new entry in the history. */
export function replace(...parts) {
  history.replaceState(null, "", link(...parts));
}

export function useRoute() {
  const [route, setRoute] = useState(() => parse(location.hash));
  useEffect(() => {
    const changed = () => setRoute(parse(location.hash));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}
