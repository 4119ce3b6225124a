// Pillow's antialiased resize, to the bit: a pass across, rounded to 8 bits, then a pass down, in its fixed point.
// So the network sees the same pixels here as in training and on a server.

const PRECISION_BITS = 22;
const HALF = 1 << (PRECISION_BITS - 1);

const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, weight: bicubic },
};

/** The picture `width` pixels wide: Uint8Array [rows, columns, channels] -> [rows, width, channels]. */
export function resizeAcross(pixels, rows, columns, channels, width, filter) {
  if (width === columns) return pixels;
  const { firsts, counts, weights, stride } = taps(columns, width, filter);
  const resized = new Uint8Array(rows * width * channels);
  let at = 0;
  for (let row = 0; row < rows; row++) {
    const start = row * columns * channels;
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < channels; channel++) {
        let sum = HALF;
        let from = start + firsts[x] * channels + channel;
        for (let tap = x * stride; tap < x * stride + counts[x]; tap++, from += channels) {
          sum += pixels[from] * weights[tap];
        }
        resized[at++] = clipped(sum);
      }
    }
  }
  return resized;
}

/** The picture `height` pixels high: Uint8Array [rows, columns, channels] -> [height, columns, channels]. */
export function resizeDown(pixels, rows, columns, channels, height, filter) {
  if (height === rows) return pixels;
  const { firsts, counts, weights, stride } = taps(rows, height, filter);
  const step = columns * channels;
  const resized = new Uint8Array(height * step);
  const sums = new Int32Array(step);
  for (let y = 0; y < height; y++) {
    sums.fill(HALF);
    for (let tap = 0; tap < counts[y]; tap++) {
      const weight = weights[y * stride + tap];
      const from = (firsts[y] + tap) * step;
      for (let i = 0; i < step; i++) sums[i] += pixels[from + i] * weight;
    }
    for (let i = 0; i < step; i++) resized[y * step + i] = clipped(sums[i]);
  }
  return resized;
}

/** For each target position the first source position, how many there are, and their weights in fixed point. */
function taps(source, target, filter) {
  const { support, weight } = FILTERS[filter];
  const scale = source / target;
  const spread = Math.max(1, scale);
  const reach = support * spread;
  const stride = Math.ceil(reach) * 2 + 1;
  const firsts = new Int32Array(target);
  const counts = new Int32Array(target);
  const weights = new Int32Array(target * stride);
  const exact = new Float64Array(stride);
  for (let position = 0; position < target; position++) {
    const centre = (position + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const count = Math.min(source, Math.trunc(centre + reach + 0.5)) - first;
    let total = 0;
    for (let i = 0; i < count; i++) {
      exact[i] = weight((i + first - centre + 0.5) * (1 / spread));
      total += exact[i];
    }
    for (let i = 0; i < count; i++) {
      const share = total === 0 ? exact[i] : exact[i] / total;
      weights[position * stride + i] = Math.trunc(share * (1 << PRECISION_BITS) + (share < 0 ? -0.5 : 0.5));
    }
    firsts[position] = first;
    counts[position] = count;
  }
  return { firsts, counts, weights, stride };
}

function bicubic(x) {
  const a = -0.5;
  const distance = Math.abs(x);
  if (distance < 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
  if (distance < 2) return (((distance - 5) * distance + 8) * distance - 4) * a;
  return 0;
}

function clipped(sum) {
  const level = sum >> PRECISION_BITS;
  return level < 0 ? 0 : level > 255 ? 255 : level;
}
