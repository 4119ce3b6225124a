// Keeps the page on this device, so that it works without its server.

import { element, show } from "./elements.js";

/** Stores the page's files; resolves with whether it works offline from now on. */
export async function keepOffline() {
  if (!navigator.serviceWorker) return false;
  let registration;
  try {
    registration = await navigator.serviceWorker.register("service-worker.js", { updateViaCache: "none" });
  } catch {
    return false; // the browser forbids it, as in some private windows
  }
  offerUpdate(registration);
  registration.addEventListener("updatefound", () => {
    registration.installing?.addEventListener("statechange", () => offerUpdate(registration));
  });
  await navigator.serviceWorker.ready;
  return true;
}

/** A new version is used once no page shows the old one, or at once where the visitor asks for it. */
function offerUpdate(registration) {
  if (!registration.waiting || !navigator.serviceWorker.controller) return;
  const button = element("reload");
  show(true, "reload");
  button.onclick = () => {
    navigator.serviceWorker.addEventListener("controllerchange", () => location.reload(), { once: true });
    registration.waiting.postMessage("take over");
  };
}
