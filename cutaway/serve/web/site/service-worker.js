// Answers for the page's own folder from what is stored on this device, and lets nothing through to anywhere else.

importScripts("files.js");

const { version, files } = self.CUTAWAY;
const PREFIX = `cutaway ${new URL("./", self.location.href).pathname} `;
const NAME = PREFIX + version;

self.addEventListener("install", (event) => event.waitUntil(store()));

self.addEventListener("activate", (event) => event.waitUntil(takeOver()));

self.addEventListener("message", ({ data }) => {
  if (data === "take over") self.skipWaiting();
});

self.addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

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

async function answer(request) {
  const scope = new URL("./", self.location.href).href;
  if (request.url.startsWith("blob:")) return fetch(request);
  if (!request.url.startsWith(scope)) return Response.error();
  const cache = await caches.open(NAME);
  const stored = await cache.match(request.mode === "navigate" ? scope : request.url);
  return stored ?? fetch(request);
}
