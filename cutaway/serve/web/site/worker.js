// Works beside the page, so that it stays alive while the network thinks.

import { decode } from "./decoding.js";
import { fetchBytes } from "./fetching.js";
import { classify, load, tryGpu } from "./network.js";
import { inputOf, seenOf } from "./preprocessing.js";
import { viewOf } from "./view.js";

let description = null;
let model = null;
let input = null;
let before = Promise.resolve();

const TASKS = {
  async load(described) {
    description = described;
    const onBytes = (bytes) => self.postMessage({ bytes });
    model = await fetchBytes(description.model, description.version, onBytes);
    await load(model, description, onBytes);
  },

  async tryGpu() {
    await tryGpu(model);
    model = null;
  },

  async picture({ file, classIndex }) {
    input = null;
    const bitmap = await decode(file, description.limits);
    try {
      const seen = seenOf(bitmap, description.preprocessing);
      input = inputOf(seen, description);
      const view = viewOf(bitmap, description.preprocessing);
      const size = { height: bitmap.height, width: bitmap.width };
      return { ...(await classify(input, classIndex)), seen, view, size };
    } finally {
      bitmap.close();
    }
  },

  async explain({ classIndex }) {
    return classify(input, classIndex);
  },
};

self.onmessage = ({ data: { id, task, asked } }) => {
  // One picture after the other; a GPU is tried meanwhile.
  const work = task === "tryGpu" ? TASKS[task](asked) : before.then(() => TASKS[task](asked));
  const told = work.then(
    (result) => self.postMessage({ id, result }, result?.view ? [result.view] : []),
    (error) => self.postMessage({ id, error: error.message }),
  );
  if (task !== "tryGpu") before = told;
};
