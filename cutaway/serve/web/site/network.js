// The classifier: pixels in, probabilities and heat-map out. It starts on the CPU, and moves to the GPU where that gives
// the same answer in less time.

import { isEmpty } from "./heatmap.js";
import { openNetwork } from "./runtime.js";

const QUICK_MS = 50;
const TRIALS = 3;
const SAME_PROBABILITY = 0.005;
const SAME_HEATMAP = 0.99;

let network = null;
let description = null;
let device = "the CPU";

/** Loads the network by WebAssembly and runs it once. */
export async function load(model, described, onBytes) {
  description = described;
  network = await openNetwork("wasm", model, description, onBytes);
  await answerOf(network, trialInput(), -1);
}

/** What the network says of one input: { probabilities, heatmap, milliseconds, device }; -1 explains the top class. */
export async function classify(input, classIndex) {
  return { ...(await answerOf(network, input, classIndex)), device };
}

/** Goes over to WebGPU where there is such a thing, and it gives the same answer, sooner. */
export async function tryGpu(model) {
  const adapter = await self.navigator.gpu?.requestAdapter().catch(() => null);
  if (!adapter || adapter.info?.isFallbackAdapter) return;
  const input = trialInput();
  const onCpu = await timed(network, input, 1);
  if (onCpu.milliseconds < QUICK_MS) return;
  let gpu = null;
  try {
    gpu = await openNetwork("webgpu", model, description);
    await answerOf(gpu, input, 0); // the first run prepares
    const onGpu = await timed(gpu, input, TRIALS);
    if (!agree(onCpu, onGpu) || onGpu.milliseconds >= onCpu.milliseconds) {
      await gpu.close();
      return;
    }
  } catch {
    await gpu?.close().catch(() => {});
    return; // the CPU goes on
  }
  const before = network;
  [network, device] = [gpu, "the GPU"];
  await before.close();
}

async function answerOf(asked, input, classIndex) {
  const start = performance.now();
  const outputs = await asked.run(input, description.explains ? classIndex : null);
  const probabilities = await numbers(outputs.probabilities);
  const milliseconds = performance.now() - start;
  if (!probabilities.every(Number.isFinite)) {
    throw new Error("The network's answer is not finite. Its weights may have diverged in training.");
  }
  if (!outputs.heatmap) return { probabilities, heatmap: null, milliseconds };
  const values = await numbers(outputs.heatmap);
  const [, height, width] = outputs.heatmap.dims;
  const faint = outputs.heatmap_faint ? Boolean((await outputs.heatmap_faint.getData())[0]) : isEmpty(values);
  return { probabilities, heatmap: { height, width, values, faint: faint || isEmpty(values) }, milliseconds };
}

async function numbers(tensor) {
  return Float32Array.from(await tensor.getData());
}

/** The answer that took the median time. */
async function timed(asked, input, trials) {
  const answers = [];
  for (let trial = 0; trial < trials; trial++) answers.push(await answerOf(asked, input, 0));
  return answers.sort((a, b) => a.milliseconds - b.milliseconds)[trials >> 1];
}

/** Whether two answers are the same but for rounding. */
export function agree(one, other) {
  const top = (values) => values.indexOf(Math.max(...values));
  if (top(one.probabilities) !== top(other.probabilities)) return false;
  if (one.probabilities.some((value, i) => Math.abs(value - other.probabilities[i]) > SAME_PROBABILITY)) return false;
  if (!one.heatmap || (one.heatmap.faint && other.heatmap.faint)) return true;
  return correlation(one.heatmap.values, other.heatmap.values) > SAME_HEATMAP;
}

function correlation(a, b) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [meanA, meanB] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  a.forEach((value, i) => {
    ab += (value - meanA) * (b[i] - meanB);
    aa += (value - meanA) ** 2;
    bb += (b[i] - meanB) ** 2;
  });
  return aa === 0 && bb === 0 ? 1 : ab / Math.sqrt(aa * bb);
}

/** A picture of coarse patches, the same each time. */
function trialInput() {
  const [height, width] = description.preprocessing.size;
  const side = description.preprocessing.resize_to;
  const float = description.input === "float";
  const channels = float ? description.preprocessing.mean.length : 3;
  const [rows, columns] = float || !side ? [height, width] : [side, side];
  const data = new (float ? Float32Array : Uint8Array)(rows * columns * channels);
  for (let i = 0; i < data.length; i++) {
    const [x, y] = float
      ? [i % columns, Math.floor(i / columns) % rows]
      : [Math.floor(i / channels) % columns, Math.floor(i / channels / columns)];
    const level = ((Math.floor((8 * x) / columns) * 37 + Math.floor((8 * y) / rows) * 91) * 53) % 256;
    data[i] = float ? level / 128 - 1 : level;
  }
  const dims = float ? [1, channels, rows, columns] : [1, rows, columns, channels];
  return { type: float ? "float32" : "uint8", data, dims };
}
