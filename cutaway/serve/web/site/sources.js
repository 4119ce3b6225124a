// Where pictures come from: a file, a drop, the clipboard.

import { element, show } from "./elements.js";

/** Calls `take` with each picture, a Blob, and `complain` with a sentence where there is none. */
export function listen(take, complain) {
  const input = element("file");
  input.addEventListener("change", chosen);
  chosen(); // while the page was still loading

  const area = element("input-image");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    area.classList.toggle("cw-over", area.contains(event.target));
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("cw-over");
    taken(event.dataTransfer, "What was dropped is no picture.");
  });
  document.addEventListener("paste", (event) => taken(event.clipboardData, "There is no picture in the clipboard."));

  if (navigator.clipboard?.read) {
    show(true, "paste");
    element("paste").addEventListener("click", pasted);
  }

  function chosen() {
    if (input.files.length > 0) take(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  }

  function taken(transfer, sentence) {
    const [file] = transfer?.files ?? [];
    if (file) take(file);
    else complain(sentence);
  }

  async function pasted() {
    let items;
    try {
      items = await navigator.clipboard.read();
    } catch {
      complain("The browser did not let this page read the clipboard.");
      return;
    }
    for (const item of items) {
      const type = item.types.find((name) => name.startsWith("image/"));
      if (type) {
        take(await item.getType(type));
        return;
      }
    }
    complain("There is no picture in the clipboard.");
  }
}
