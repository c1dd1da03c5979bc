// Words, numbers and dates in the reader's language.
export const LANGUAGES = { en: "English", zh: "中文", id: "Bahasa Indonesia", vi: "Tiếng Việt" };
let words = {};
let code = "en";

export function stored(name) {
  try {
    return localStorage.getItem(`luthier.${name}`);
  } catch {
    return null; // storage is off; choices then last as long as the page
  }
}

export function store(name, value) {
  try {
    localStorage.setItem(`luthier.${name}`, value);
  } catch {
    return false;
  }
  return true;
}

/** The explicit choice first, then the browser's languages, then English. */
export function preferred() {
  const wishes = [stored("language"), ...(navigator.languages ?? [])].filter(Boolean);
  return (
    wishes.map((wish) => wish.slice(0, 2).toLowerCase()).find((wish) => wish in LANGUAGES) ?? "en"
  );
}

export async function loadLanguage(wish) {
  const answer = await fetch(`lang/${wish}.json`);
  words = await answer.json();
  code = wish;
  document.documentElement.lang = wish === "zh" ? "zh-CN" : wish;
}

export const language = () => code;
export const known = (key) => key in words;

/** A text of the catalogue.  `{name}` is filled from `values`; `key_one` is taken when `count` is 1. */
export function t(key, values = {}) {
  const single = values.count === 1 && code === "en" && words[`${key}_one`];
  const text = single || words[key] || key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    return value === undefined ? whole : typeof value === "number" ? number(value) : value;
  });
}

export function number(value, options = {}) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return new Intl.NumberFormat(code, { maximumFractionDigits: 2, ...options }).format(value);
}

/** A figure of a chart: four significant digits, or 2e-4 as people write learning rates. */
export function figure(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && size < 0.001) return value.toExponential(2).replace(/\.?0+e/, "e");
  if (size >= 10000) return number(value, { maximumFractionDigits: 0 });
  return number(value, { maximumSignificantDigits: 4, maximumFractionDigits: undefined });
}

export const percent = (share, digits = 0) =>
  number(share, { style: "percent", maximumFractionDigits: digits });

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = value;
  let unit = 0;
  while (Math.abs(size) >= 1000 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${number(size, { maximumFractionDigits: size < 10 && unit > 0 ? 1 : 0 })} ${units[unit]}`;
}

export function count(value) {
  if (value === null || value === undefined) return "–";
  return new Intl.NumberFormat(code, { notation: "compact", maximumSignificantDigits: 3 }).format(
    value,
  );
}

/** A length of context as the field writes it: 8K is 8,192. */
export const context = (tokens) =>
  tokens && tokens % 1024 === 0 ? `${number(tokens / 1024)}K` : count(tokens);

/** Parameters as the field writes them, in every language: 7.6B. */
export function parameters(value) {
  if (!value) return "–";
  const [unit, name] = value >= 9.995e8 ? [1e9, "B"] : value >= 1e6 ? [1e6, "M"] : [1e3, "K"];
  return `${number(value / unit, { maximumSignificantDigits: 3 })}${name}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds > 0 && seconds < 1)
    return new Intl.NumberFormat(code, {
      style: "unit",
      unit: "millisecond",
      unitDisplay: "short",
      maximumSignificantDigits: 3,
    }).format(seconds * 1000);
  const whole = Math.max(0, Math.round(seconds));
  /** @type {[number, string][]} */
  const parts = [
    [Math.floor(whole / 86400), "day"],
    [Math.floor(whole / 3600) % 24, "hour"],
    [Math.floor(whole / 60) % 60, "minute"],
    [whole % 60, "second"],
  ];
  const first = parts.findIndex(([size]) => size > 0);
  /** @type {[number, string][]} */
  const shown =
    first < 0 ? [[0, "second"]] : parts.slice(first, first + 2).filter(([size]) => size > 0);
  return shown
    .map(([size, unit]) =>
      new Intl.NumberFormat(code, { style: "unit", unit, unitDisplay: "short" }).format(size),
    )
    .join(" ");
}

export function moment(value) {
  const date = asDate(value);
  return date
    ? new Intl.DateTimeFormat(code, { dateStyle: "medium", timeStyle: "short" }).format(date)
    : "–";
}

/** The time of day, to the second. */
export const clock = (value) =>
  new Intl.DateTimeFormat(code, { timeStyle: "medium" }).format(asDate(value));

export function ago(value) {
  const date = asDate(value);
  if (!date) return "–";
  const past = (date.getTime() - Date.now()) / 1000;
  const words_ = new Intl.RelativeTimeFormat(code, { numeric: "auto" });
  /** @type {[Intl.RelativeTimeFormatUnit, number][]} */
  const units = [
    ["day", 86400],
    ["hour", 3600],
    ["minute", 60],
  ];
  for (const [unit, size] of units)
    if (Math.abs(past) >= size) return words_.format(Math.round(past / size), unit);
  return words_.format(Math.min(0, Math.round(past)), "second");
}

/** Seconds since the epoch, or a text of ISO 8601. */
function asDate(value) {
  if (value === null || value === undefined || value === "") return null;
  const date = new Date(typeof value === "number" ? value * 1000 : value);
  return Number.isNaN(date.getTime()) ? null : date;
}
