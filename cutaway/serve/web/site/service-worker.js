// Answers for the page's own files from what is stored on this device. Other pages may lie in folders below.

importScripts("files.js");

const { version, files } = self.CUTAWAY;
const PREFIX = `cutaway ${new URL("./", self.location.href).pathname} `;
const NAME = PREFIX + version;
const PAGE = new URL("./", self.location.href).href;
const OWN = new Set(files.map((file) => new URL(file, PAGE).href));

self.addEventListener("install", (event) => event.waitUntil(store()));

self.addEventListener("activate", (event) => event.waitUntil(takeOver()));

self.addEventListener("message", ({ data }) => {
  if (data === "take over") self.skipWaiting();
});

self.addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  const url = origin + pathname === `${PAGE}index.html` ? PAGE : origin + pathname;
  if (OWN.has(url)) event.respondWith(answer(url, event.request));
});

async function store() {
  const cache = await caches.open(NAME);
  for (const file of files) {
    const url = new URL(file, self.location.href).href;
    if (await cache.match(url)) continue; // the page stored the large ones itself
    const response = await fetch(url, { cache: "no-cache" });
    if (!response.ok) throw new Error(`${file}: ${response.status}`);
    await cache.put(url, response);
  }
}

async function takeOver() {
  for (const name of await caches.keys()) {
    if (name.startsWith(PREFIX) && name !== NAME) await caches.delete(name);
  }
  await self.clients.claim();
}

async function answer(url, request) {
  const cache = await caches.open(NAME);
  return (await cache.match(url)) ?? fetch(request);
}
