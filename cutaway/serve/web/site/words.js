// Numbers as people say them; the same as on the served page.

/** A probability that is not 0 never reads 0%, and one that is not 1 never reads 100%. */
export function percent(probability) {
  if (probability > 0 && probability < 0.001) return "less than 0.1%";
  if (probability > 0.999 && probability < 1) return "more than 99.9%";
  return `${(100 * probability).toFixed(1)}%`;
}

/** Width times height, never broken over two lines. */
export function size({ height, width }) {
  return `${width}\u00a0×\u00a0${height}`;
}

/** A time in milliseconds. */
export function milliseconds(value) {
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

/** Class names, told apart by their number where two are the same. */
export function uniqueNames(classes) {
  const counts = new Map();
  for (const name of classes) counts.set(name, (counts.get(name) ?? 0) + 1);
  return classes.map((name, index) => (counts.get(name) === 1 ? name : `${name} (${index})`));
}
