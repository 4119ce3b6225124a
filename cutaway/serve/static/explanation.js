// Moves the heat-map's opacity in the browser, and keeps it when the next answer replaces the figure.
let opacity = 55;
function show() {
  const heat = element.querySelector(".cw-heat");
  const slider = element.querySelector(".cw-opacity");
  const text = element.querySelector(".cw-opacity-value");
  if (!heat || !slider || !text) return;
  heat.style.opacity = opacity / 100;
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
