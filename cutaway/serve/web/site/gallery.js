// The example pictures that came with the export.

import { element, show } from "./elements.js";

/** Shows them with their true labels; calls `take` with the one that is chosen. */
export function showGallery(examples, take, complain) {
  if (examples.length === 0) return;
  element("gallery").replaceChildren(...examples.map(({ file, label }) => {
    const [item, button, image, name] = ["li", "button", "img", "span"].map((tag) => document.createElement(tag));
    button.type = "button";
    button.title = `Classify this example: ${label}`;
    image.src = file;
    image.alt = "Example";
    image.loading = "lazy";
    name.textContent = label;
    button.append(image, name);
    button.addEventListener("click", async () => {
      try {
        const answer = await fetch(file);
        if (!answer.ok) throw new Error(answer.statusText);
        take(await answer.blob());
      } catch {
        complain("This example is not here any more.");
      }
    });
    item.append(button);
    return item;
  }));
  show(true, "examples");
}
