// From a decoded picture to what the network is fed: colour, resize, centre crop or padding, scale, normalise. The same
// rules as on the server, whose description of them comes with the page.

import { readStrips } from "./decoding.js";
import { resizeAcross, resizeDown } from "./resize.js";

const MOST_RESIZED_PIXELS = 2 ** 24;

/** What the network sees of a decoded picture (an ImageBitmap): { height, width, channels, pixels: Uint8Array }. */
export function seenOf(bitmap, preprocessing) {
  const [height, width] = preprocessing.size;
  const channels = preprocessing.color === "grey" ? 1 : 3;
  const [rows, columns] = resized(bitmap.height, bitmap.width, preprocessing);
  if (rows * columns > Math.max(MOST_RESIZED_PIXELS, bitmap.height * bitmap.width)) {
    throw new Error(
      `A picture of ${bitmap.width}x${bitmap.height} pixels is too narrow a strip to cut a centre out of. ` +
        "Cut it to the part that matters first.",
    );
  }
  // Strip by strip, so that a large photo is never all here as numbers.
  const across = new Uint8Array(bitmap.height * columns * channels);
  let at = 0;
  for (const { rgba, rows: inStrip } of readStrips(bitmap)) {
    const colors = withColor(rgba, preprocessing.color);
    const strip = resizeAcross(colors, inStrip, bitmap.width, channels, columns, preprocessing.interpolation);
    across.set(strip, at);
    at += strip.length;
  }
  const picture = resizeDown(across, bitmap.height, columns, channels, rows, preprocessing.interpolation);
  const fill = preprocessing.resize === "pad" ? (preprocessing.fill ?? 128) : 0;
  const [top, left] = cropOffset(rows, columns, preprocessing);
  const pixels = placed(picture, [rows, columns], [height, width], [top, left], channels, fill);
  return { height, width, channels, pixels };
}

/** The network's `images` input for what it is to see: { type, data, dims }. */
export function inputOf(seen, description) {
  if (description.input === "float") return normalised(seen, description.preprocessing);
  const { height, width } = seen;
  const colors = seen.channels === 1 ? tripled(seen.pixels) : seen.pixels;
  const side = description.preprocessing.resize_to ?? null;
  if (side === null) return { type: "uint8", data: colors, dims: [1, height, width, 3] };
  // A frame of the width that the graph's own centre crop cuts off again.
  const [top, left] = cropOffset(side, side, description.preprocessing);
  const framed = placed(colors, [height, width], [side, side], [-top, -left], 3, 0);
  return { type: "uint8", data: framed, dims: [1, side, side, 3] };
}

/** Left, top, right and bottom, in pixels of the picture, of what the network's input shows of it. */
export function kept(height, width, preprocessing) {
  if (preprocessing.resize === "stretch") return [0, 0, width, height];
  const [rows, columns] = resized(height, width, preprocessing);
  const [top, left] = cropOffset(rows, columns, preprocessing);
  const [down, across] = [height / rows, width / columns];
  const [bottom, right] = [(top + preprocessing.size[0]) * down, (left + preprocessing.size[1]) * across];
  if (preprocessing.resize === "pad") return [left * across, top * down, right, bottom];
  return [left * across, top * down, Math.min(right, width), Math.min(bottom, height)];
}

function resized(height, width, { resize, size, resize_to: shorter }) {
  if (resize === "pad") return [fitted(height, width, ...size), fitted(width, height, size[1], size[0])];
  if (resize === "stretch") return size;
  if (height <= width) return [shorter, Math.trunc((shorter * width) / height)];
  return [Math.trunc((shorter * height) / width), shorter];
}

function fitted(side, other, most, mostOfOther) {
  const scaled = side * mostOfOther;
  const rounded = Math.floor((2 * scaled + other - 1 + (Math.floor(scaled / other) % 2)) / (2 * other));
  return Math.max(1, Math.min(most, rounded));
}

function cropOffset(height, width, { size }) {
  return [halfToEven((height - size[0]) / 2), halfToEven((width - size[1]) / 2)];
}

function halfToEven(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

/** Cuts `size` out of a picture from an offset on; where that lies outside there is `fill`. */
function placed(picture, [rows, columns], [height, width], [top, left], channels, fill) {
  const out = new Uint8Array(height * width * channels).fill(fill);
  const firstColumn = Math.max(0, left);
  const lastColumn = Math.min(columns, left + width);
  for (let row = Math.max(0, top); row < Math.min(rows, top + height); row++) {
    const line = picture.subarray((row * columns + firstColumn) * channels, (row * columns + lastColumn) * channels);
    out.set(line, ((row - top) * width + firstColumn - left) * channels);
  }
  return out;
}

/** RGBA -> RGB, or ITU-R 601 luma in Pillow's integers, once or three times. */
function withColor(rgba, color) {
  const count = rgba.length / 4;
  const channels = color === "grey" ? 1 : 3;
  const out = new Uint8Array(count * channels);
  for (let i = 0, from = 0, to = 0; i < count; i++, from += 4, to += channels) {
    if (color === "rgb") {
      out[to] = rgba[from];
      out[to + 1] = rgba[from + 1];
      out[to + 2] = rgba[from + 2];
    } else {
      const luma = (rgba[from] * 19595 + rgba[from + 1] * 38470 + rgba[from + 2] * 7471 + 0x8000) >> 16;
      out.fill(luma, to, to + channels);
    }
  }
  return out;
}

function tripled(grey) {
  const out = new Uint8Array(grey.length * 3);
  for (let i = 0; i < grey.length; i++) out.fill(grey[i], 3 * i, 3 * i + 3);
  return out;
}

function normalised({ height, width, channels, pixels }, { mean, std }) {
  const data = new Float32Array(pixels.length);
  const area = height * width;
  for (let channel = 0; channel < channels; channel++) {
    for (let i = 0; i < area; i++) {
      data[channel * area + i] = (Math.fround(pixels[i * channels + channel] / 255) - mean[channel]) / std[channel];
    }
  }
  return { type: "float32", data, dims: [1, channels, height, width] };
}
