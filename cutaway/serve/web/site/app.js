// The page: a picture in, its classes and where the network looked out. All of it on the visitor's own device.

import { listenToSlider, showAnswer, showExplanation, showNothing } from "./answer.js";
import { closeCamera, offerCamera } from "./camera.js";
import { Classifier } from "./classifier.js";
import { element, show } from "./elements.js";
import { showGallery } from "./gallery.js";
import { keepOffline } from "./offline.js";
import { listen } from "./sources.js";
import { uniqueNames } from "./words.js";

const description = await (await fetch("model.json", { cache: "no-cache" })).json();
const classifier = new Classifier(description, countBytes);

let loaded = 0;
let pictures = 0; // how many were asked about, by which late answers are told
let hasPicture = false;

listen(take, complain);
offerCamera(take, complain);
showGallery(description.examples, take, complain);
listenToSlider();
listClasses();
element("clear").addEventListener("click", clear);
element("class-to-explain").addEventListener("change", explain);
start();

async function start() {
  show(true, "progress");
  say("Loading the network.");
  try {
    await classifier.ready;
  } catch (error) {
    show(false, "progress");
    say("");
    complain(error.message);
    return;
  }
  show(false, "progress");
  say("The network runs in your browser.");
  if (await keepOffline()) say("The network runs in your browser, and now also without a connection.");
  await classifier.tryGpu();
}

async function take(file) {
  const mine = ++pictures;
  closeCamera();
  show(false, "toast");
  showPreview(file);
  const classIndex = chosenClass();
  try {
    const answer = await classifier.picture(file, classIndex);
    if (mine !== pictures) return;
    hasPicture = true;
    showAnswer(answer, description);
    showExplanation(answer, classIndex, description);
    if (chosenClass() !== classIndex) await explain();
  } catch (error) {
    if (mine !== pictures) return;
    clear();
    complain(error.message);
  }
}

async function explain() {
  const mine = pictures;
  const classIndex = chosenClass();
  if (!hasPicture) return;
  try {
    const answer = await classifier.explain(classIndex);
    if (mine === pictures && classIndex === chosenClass()) showExplanation(answer, classIndex, description);
  } catch (error) {
    if (mine === pictures) complain(error.message);
  }
}

function clear() {
  pictures++;
  hasPicture = false;
  show(false, "toast");
  showPreview(null);
  showNothing();
}

function showPreview(file) {
  const preview = element("preview");
  URL.revokeObjectURL(preview.src);
  if (file) preview.src = URL.createObjectURL(file);
  else preview.removeAttribute("src");
  show(file !== null, "preview", "clear");
  show(file === null, "placeholder");
}

function chosenClass() {
  return Number(element("class-to-explain").value);
}

function listClasses() {
  const options = uniqueNames(description.classes).map((name, index) => new Option(name, index));
  element("class-to-explain").append(...options);
}

function countBytes(bytes) {
  loaded += bytes;
  const total = description.model.bytes + description.runtime.wasm.wasm.bytes;
  const megabytes = (count) => Math.round(count / 2 ** 20);
  element("progress").value = loaded / total;
  element("status-text").textContent = `Loading the network: ${megabytes(loaded)} of ${megabytes(total)} MB.`;
}

function say(sentence) {
  element("status-text").textContent = sentence;
}

function complain(sentence) {
  element("toast").textContent = sentence;
  show(true, "toast");
}
