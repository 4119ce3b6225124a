// From a file to upright pixels over white, by the browser's own decoders.

const PIXELS_OF_A_STRIP = 2 ** 22;
const FORMATS = "JPEG, PNG, WebP, BMP or GIF";

/** The decoded picture, turned as its EXIF orientation asks: an ImageBitmap. */
export async function decode(file, limits) {
  if (file.size > limits.bytes) {
    throw new Error(`The picture has more than the ${limits.bytes.toLocaleString("en")} bytes that are allowed. Make it smaller first.`);
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    const reason = file.size === 0 ? "it is empty" : `it is damaged, or no ${FORMATS}`;
    throw new Error(`The picture cannot be decoded: ${reason}. Save it again as ${FORMATS}.`);
  }
  if (bitmap.width * bitmap.height > limits.pixels) {
    const size = `${bitmap.width}x${bitmap.height}`;
    bitmap.close();
    throw new Error(`The picture has ${size} pixels, more than the ${limits.pixels.toLocaleString("en")} that are allowed. Make it smaller first.`);
  }
  return bitmap;
}

/** Its pixels over white, some rows at a time: { rgba: Uint8ClampedArray, rows }. A canvas has a largest size. */
export function* readStrips(bitmap) {
  const most = Math.max(1, Math.min(bitmap.height, Math.floor(PIXELS_OF_A_STRIP / bitmap.width)));
  const canvas = new OffscreenCanvas(bitmap.width, most);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  for (let top = 0; top < bitmap.height; top += most) {
    const rows = Math.min(most, bitmap.height - top);
    context.fillRect(0, 0, bitmap.width, rows);
    context.drawImage(bitmap, 0, top, bitmap.width, rows, 0, 0, bitmap.width, rows);
    yield { rgba: context.getImageData(0, 0, bitmap.width, rows).data, rows };
  }
}
