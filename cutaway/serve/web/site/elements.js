// The elements of the page by their ids.

/** The element of an id. */
export function element(id) {
  return document.getElementById(id);
}

/** Shows the elements of some ids, or hides them. */
export function show(visible, ...ids) {
  for (const id of ids) element(id).hidden = !visible;
}
