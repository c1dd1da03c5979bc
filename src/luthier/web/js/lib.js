// The one place that knows which library draws.
import { h, render, Fragment } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export {
  useCallback,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
  useId,
} from "../vendor/preact-hooks.js";
export const html = htm.bind(h);
export { render, Fragment };
