// ONNX Runtime Web: its two builds, each loaded only where it is used.

import { fetchBytes } from "./fetching.js";

/** Opens the network by WebAssembly on the CPU, or by WebGPU: a session and what makes its tensors. */
export async function openNetwork(kind, model, description, onBytes) {
  const build = description.runtime[kind];
  const wasm = await fetchBytes(build.wasm, description.version, onBytes);
  const ort = await import(`./${build.module}`);
  ort.env.logLevel = "error";
  // One thread: more need headers that a plain file server does not send.
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.wasmPaths = { mjs: new URL(`./${build.glue}`, import.meta.url).href };
  const session = await ort.InferenceSession.create(new Uint8Array(model), {
    executionProviders: [kind],
    logSeverityLevel: 3,
  });
  return new Network(ort, session);
}

class Network {
  constructor(ort, session) {
    this.ort = ort;
    this.session = session;
    this.running = Promise.resolve();
  }

  /** Runs the network on one picture; one run at a time. */
  async run({ type, data, dims }, classIndex) {
    const feeds = { images: new this.ort.Tensor(type, data, dims) };
    const fetches = ["probabilities"];
    if (classIndex !== null) {
      feeds.class_index = new this.ort.Tensor("int64", BigInt64Array.of(BigInt(classIndex)), [1]);
      fetches.push(...["heatmap", "heatmap_faint"].filter((name) => this.session.outputNames.includes(name)));
    }
    const before = this.running;
    const run = before.catch(() => {}).then(() => this.session.run(feeds, fetches));
    this.running = run;
    return run;
  }

  async close() {
    await this.running.catch(() => {});
    await this.session.release();
  }
}
