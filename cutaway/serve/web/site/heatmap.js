// Drawing heat-maps as the server does: scaled to 0..1, resized, coloured.

const NEARLY_ZERO = 1e-6;

/** Whether nothing in a raw map speaks for the class, or only rounding noise does. */
export function isEmpty(values) {
  let strongest = 0;
  for (const value of values) strongest = Math.max(strongest, value);
  return !(strongest * values.length >= NEARLY_ZERO);
}

/** A map { height, width, values, faint } between 0 and 1; an empty one stays zero instead of becoming noise. */
export function normalise(map) {
  const values = new Float32Array(map.values.length);
  if (!map.faint) {
    const strongest = map.values.reduce((most, value) => Math.max(most, value), 0);
    for (let i = 0; i < values.length; i++) values[i] = Math.max(0, map.values[i]) / strongest;
  }
  return { height: map.height, width: map.width, values };
}

/** Bilinear, half-pixel centres, edges repeated. */
export function resize(map, height, width) {
  const down = neighbours(map.height, height);
  const across = neighbours(map.width, width);
  const values = new Float32Array(height * width);
  for (let y = 0; y < height; y++) {
    const [top, bottom, share] = down[y];
    for (let x = 0; x < width; x++) {
      const [left, right, part] = across[x];
      const at = (row, column) => map.values[row * map.width + column];
      const first = at(top, left) * (1 - share) + at(bottom, left) * share;
      const second = at(top, right) * (1 - share) + at(bottom, right) * share;
      values[y * width + x] = first * (1 - part) + second * part;
    }
  }
  return { height, width, values };
}

/** Paints a map between 0 and 1 onto a canvas, by a table of 256 colours, three numbers each. */
export function paint(canvas, map, colors) {
  canvas.width = map.width;
  canvas.height = map.height;
  const image = new ImageData(map.width, map.height);
  map.values.forEach((value, i) => {
    const color = 3 * Math.round(Math.min(1, Math.max(0, value)) * 255);
    image.data.set([colors[color], colors[color + 1], colors[color + 2], 255], 4 * i);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function neighbours(source, target) {
  return Array.from({ length: target }, (_, position) => {
    const centre = Math.min(source - 1, Math.max(0, (position + 0.5) * (source / target) - 0.5));
    const first = Math.floor(centre);
    return [first, Math.min(first + 1, source - 1), centre - first];
  });
}
