// The part of a picture that the network saw, in the picture's own detail: what a heat-map is laid over.

import { kept } from "./preprocessing.js";

const LONGEST_SIDE = 640;

/** A bitmap of it, small enough to show. */
export function viewOf(bitmap, preprocessing) {
  const [left, top, right, bottom] = kept(bitmap.height, bitmap.width, preprocessing);
  const scale = Math.min(1, LONGEST_SIDE / Math.max(right - left, bottom - top));
  const width = Math.max(1, Math.round((right - left) * scale));
  const height = Math.max(1, Math.round((bottom - top) * scale));
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const grey = preprocessing.resize === "pad" ? (preprocessing.fill ?? 128) : 255;
  context.fillStyle = preprocessing.resize === "pad" ? `rgb(${grey} ${grey} ${grey})` : "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, left, top, right - left, bottom - top, 0, 0, width, height);
  return canvas.transferToImageBitmap();
}
