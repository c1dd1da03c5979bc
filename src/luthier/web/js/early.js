// Runs before the first paint, so that a dark page is never white for a moment.
(() => {
  let chosen;
  try {
    chosen = localStorage.getItem("luthier.theme");
  } catch {
    chosen = null; // storage is off: the system's theme then
  }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme =
    chosen === "dark" || (chosen !== "light" && dark) ? "dark" : "light";
})();
