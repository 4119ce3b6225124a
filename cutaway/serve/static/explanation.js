// Moves the heat-maps' opacity in the browser, and keeps it when the next answer replaces the figures.
let opacity = 55;
element.setAttribute("aria-live", "polite");
function show() {
  const slider = element.querySelector(".cw-opacity");
  const text = element.querySelector(".cw-opacity-value");
  if (!slider || !text) return;
  element.querySelectorAll(".cw-heat").forEach((heat) => { heat.style.opacity = opacity / 100; });
  slider.value = opacity;
  text.textContent = opacity + "%";
}
element.addEventListener("input", (event) => {
  if (!event.target.classList.contains("cw-opacity")) return;
  opacity = Number(event.target.value);
  show();
});
watch("value", show);
show();
