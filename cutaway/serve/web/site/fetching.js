// The page's own files, from this device where they were stored before.

import { cacheName } from "./caching.js";

/** The bytes of a file of the page, as it was exported: an ArrayBuffer. `onBytes` is told how many came with each part. */
export async function fetchBytes({ file, sha256 }, version, onBytes = () => {}) {
  const url = new URL(`./${file}`, import.meta.url).href;
  const cache = await openCache(version);
  const stored = await cache?.match(url);
  // Of the server itself: the browser may still know the file that had this name in an earlier version.
  const answer = stored ?? (await fetch(url, { cache: "no-cache" }));
  if (!answer.ok) throw new Error(`The file ${file} of this page is missing (${answer.status}).`);
  const kept = stored || !cache ? null : cache.put(url, answer.clone());
  const parts = [];
  let length = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    length += value.length;
    onBytes(value.length);
  }
  await kept?.catch(() => {}); // a full disk: the page works all the same, but not offline
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  if (!(await isExported(bytes, sha256))) {
    await cache?.delete(url); // or it would be found here again
    throw new Error(`${file} is not the file that was exported. Load the page again.`);
  }
  return bytes.buffer;
}

/** Where the page's files are stored; null over plain http from another machine, or where the browser forbids it. */
async function openCache(version) {
  try {
    return await caches.open(cacheName(version));
  } catch {
    return null;
  }
}

/** Whether bytes are those that were exported, where the browser can tell. */
async function isExported(bytes, sha256) {
  if (!self.crypto?.subtle) return true;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("") === sha256;
}
