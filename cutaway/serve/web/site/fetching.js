// The page's own files, from this device where they were stored before.

import { cacheName } from "./caching.js";

/** The bytes of a file of the page: an ArrayBuffer. `onBytes` is told how many came with each part. */
export async function fetchBytes(file, version, onBytes = () => {}) {
  const url = new URL(`./${file}`, import.meta.url).href;
  // There is no cache where the page came over plain http from another machine.
  const cache = "caches" in self ? await caches.open(cacheName(version)) : null;
  const stored = await cache?.match(url);
  const answer = stored ?? (await fetch(url));
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
  return bytes.buffer;
}

/** Refuses bytes that are not those that were exported, where the browser can tell. */
export async function checkHash(bytes, expected, file) {
  if (!self.crypto?.subtle) return;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const found = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== expected) throw new Error(`${file} is not the file that was exported. Load the page again.`);
}
