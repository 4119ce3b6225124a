// Shows what the network said.

import { element, show } from "./elements.js";
import { normalise, paint, resize } from "./heatmap.js";
import { milliseconds, percent, size, uniqueNames } from "./words.js";

const NUM_SHOWN = 5;
const HEAT_SIDE = 320;
const SMALL_PICTURE = 160;

/** The most probable classes with bars, and what the network saw. */
export function showAnswer(answer, description) {
  const names = uniqueNames(description.classes);
  const top = ranked(answer.probabilities).slice(0, NUM_SHOWN);
  element("label").replaceChildren(...top.map((index) => row(names[index], answer.probabilities[index])));
  show(false, "label-empty");
  element("said").textContent = `${names[top[0]]}, ${percent(answer.probabilities[top[0]])}.`;
  showSeen(answer);
}

/** The picture under its heat-map. Without a `view` the one shown before stays. */
export function showExplanation(answer, classIndex, description) {
  if (answer.heatmap === null) return;
  const explained = classIndex === -1 ? ranked(answer.probabilities)[0] : classIndex;
  const name = description.classes[explained];
  if (answer.view) showView(answer.view);
  const below = element("below");
  const scale = HEAT_SIDE / Math.max(below.height, below.width);
  const [height, width] = [below.height, below.width].map((side) => Math.max(1, Math.round(side * scale)));
  paint(element("heat"), resize(normalise(answer.heatmap), height, width), description.colors);
  element("heat").setAttribute("aria-label", `Heat-map for ${name}`);
  element("says").textContent = answer.heatmap.faint ? "Nothing in this picture speaks for" : "What speaks for";
  element("explained-class").textContent = name;
  element("explained-probability").textContent = `(${percent(answer.probabilities[explained])}).`;
  show(false, "explanation-empty");
  show(true, "figure");
}

/** As before there was a picture. */
export function showNothing() {
  element("label").replaceChildren();
  element("said").textContent = "";
  show(true, "label-empty", "explanation-empty");
  show(false, "seen", "figure");
}

/** The slider moves the heat-map's opacity. */
export function listenToSlider() {
  const slider = element("opacity");
  slider.addEventListener("input", () => {
    element("heat").style.opacity = slider.value / 100;
    element("opacity-value").textContent = `${slider.value}%`;
  });
}

function row(name, probability) {
  const item = document.createElement("li");
  const [label, number, track, bar] = ["span", "span", "div", "div"].map((tag) => document.createElement(tag));
  label.className = "cw-label";
  label.textContent = name;
  number.className = "cw-probability";
  number.textContent = percent(probability);
  track.className = "cw-track";
  bar.className = "cw-bar";
  bar.style.width = `${100 * probability}%`;
  track.append(bar);
  item.append(label, number, track);
  return item;
}

function showSeen({ seen, size: from, milliseconds: time, device }) {
  const { height, width, channels, pixels } = seen;
  const image = new ImageData(width, height);
  let isGrey = true;
  for (let i = 0; i < height * width; i++) {
    const rgb = [0, 1, 2].map((channel) => pixels[i * channels + (channels === 1 ? 0 : channel)]);
    isGrey &&= rgb[0] === rgb[1] && rgb[1] === rgb[2];
    image.data.set([...rgb, 255], 4 * i);
  }
  const canvas = element("seen-picture");
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").putImageData(image, 0, 0);
  const madeFrom = from.height === height && from.width === width ? "" : `, from your ${size(from)}`;
  element("seen-text").textContent = `${size(seen)} pixels in ${isGrey ? "shades of grey" : "colour"}${madeFrom}.`;
  element("seen-time").textContent = `Answered in ${milliseconds(time)} on ${device}.`;
  show(true, "seen");
}

function showView(view) {
  const below = element("below");
  [below.width, below.height] = [view.width, view.height];
  below.getContext("2d").drawImage(view, 0, 0);
  below.classList.toggle("cw-pixelated", Math.max(view.width, view.height) < SMALL_PICTURE);
  const stack = element("stack");
  stack.style.aspectRatio = `${view.width} / ${view.height}`;
  stack.style.setProperty("--cw-ratio", String(view.width / view.height));
  view.close();
}

function ranked(probabilities) {
  return [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a] || a - b);
}
