// What this page's files are stored under; pages of other folders of the same site have names of their own.

/** The name of the cache of one version of this page; service-worker.js makes the same. */
export function cacheName(version) {
  return `cutaway ${new URL("./", import.meta.url).pathname} ${version}`;
}
