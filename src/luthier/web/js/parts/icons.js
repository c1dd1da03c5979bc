// Line drawings of 24 by 24.  They say nothing alone: a word is always beside them.
import { html } from "../lib.js";

const PATHS = {
  home: "M4 11 12 4l8 7v8a1 1 0 0 1-1 1h-4v-6H9v6H5a1 1 0 0 1-1-1z",
  models: "M12 3 4 7.5v9L12 21l8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
  data:
    "M5 6c0-1.7 3.1-3 7-3s7 1.3 7 3-3.1 3-7 3-7-1.3-7-3z" +
    "m0 0v12c0 1.7 3.1 3 7 3s7-1.3 7-3V6M5 12c0 1.7 3.1 3 7 3s7-1.3 7-3",
  jobs: "M4 19V5M4 19h16M8 15l3.5-5 3 3L20 7",
  chat: "M5 5h14a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1h-7l-5 4v-4H5a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1z",
  settings: "M4 7h9m4 0h3M4 17h3m4 0h9M15 4.5v5M9 14.5v5",
  plus: "M12 5v14M5 12h14",
  check: "m5 12.5 4.5 4.5L19 7.5",
  warn: "M12 4 3 20h18zM12 10v4.5M12 17.2v.3",
  cross: "m6 6 12 12M18 6 6 18",
  info: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 11v5.5M12 7.5v.3",
  copy: "M9 9h10v11H9zM5 15V4h10",
  down: "M12 4v11m-4.5-4.5L12 15l4.5-4.5M5 20h14",
  up: "M12 20V9m-4.5 4.5L12 9l4.5 4.5M5 4h14",
  pause: "M8 5v14M16 5v14",
  play: "M7 5v14l12-7z",
  stop: "M6 6h12v12H6z",
  flag: "M6 21V4h11l-2 4 2 4H6",
  again: "M19 12a7 7 0 1 1-2-5l2 2M19 4v5h-5",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  send: "M4 12 20 4l-5 16-3.5-6.5z",
  out: "M14 4h5v16h-5M4 12h10m-4-4 4 4-4 4",
};

export const Icon = ({ name, small }) => html`
  <svg class=${small ? "icon s" : "icon"} viewBox="0 0 24 24" aria-hidden="true">
    <path d=${PATHS[name]} />
  </svg>
`;
