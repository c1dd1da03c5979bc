// Numbers of charts: pure functions of arrays.

/** Put series with x values of their own on one rising x: `[x, ...ys]`, null where one has no value. */
export function align(lines) {
  const x = [...new Set(lines.flatMap((line) => line.x))].sort((one, other) => one - other);
  const place = new Map(x.map((value, index) => [value, index]));
  const ys = lines.map((line) => {
    const y = new Array(x.length).fill(null);
    line.x.forEach((value, index) => {
      const found = line.y[index];
      y[place.get(value)] = Number.isFinite(found) ? found : null;
    });
    return y;
  });
  return [x, ...ys];
}

/** Running mean whose early values are not drawn to zero.  `weight` in [0, 1): 0 leaves all as it is. */
export function smooth(y, weight) {
  let mean = 0;
  let seen = 0;
  return y.map((value) => {
    if (!Number.isFinite(value)) return null;
    mean = weight * mean + (1 - weight) * value;
    seen += 1;
    return mean / (1 - weight ** seen);
  });
}

/** First, last, lowest and highest value of a line, and where they are. */
export function summary(x, y) {
  const at = y
    .map((value, index) => [x[index], value])
    .filter(([, value]) => Number.isFinite(value));
  if (!at.length) return null;
  const lowest = at.reduce((best, one) => (one[1] < best[1] ? one : best));
  const highest = at.reduce((best, one) => (one[1] > best[1] ? one : best));
  return { first: at[0], last: at.at(-1), lowest, highest };
}

/** At most `most` indices, evenly spread, both ends included. */
export function spread(length, most) {
  if (length <= most) return Array.from({ length }, (_, index) => index);
  return Array.from({ length: most }, (_, index) =>
    Math.round((index * (length - 1)) / (most - 1)),
  );
}

export function csv(names, columns) {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = columns[0].map((_, index) => columns.map((column) => column[index] ?? "").join(","));
  return [names.map(quoted).join(","), ...rows].join("\n");
}
