// Asks the worker, and waits for its answers.

/** The network, as the page sees it. */
export class Classifier {
  constructor(description, onBytes) {
    this.description = description;
    this.waiting = new Map();
    this.asked = 0;
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => {
      if (data.bytes) onBytes(data.bytes);
      else this.#settle(data);
    };
    this.worker.onerror = () => {
      const error = "This browser cannot run the network. A newer one can.";
      for (const id of [...this.waiting.keys()]) this.#settle({ id, error });
    };
    this.ready = this.#ask("load", description);
  }

  /** The answer for a file, as in network.js, with `seen`, `view` and `size`. */
  async picture(file, classIndex) {
    await this.ready;
    return this.#ask("picture", { file, classIndex });
  }

  /** The answer for the same picture with another class explained. */
  explain(classIndex) {
    return this.#ask("explain", { classIndex });
  }

  /** Goes over to the GPU where that is better. */
  tryGpu() {
    return this.#ask("tryGpu");
  }

  #ask(task, asked) {
    const id = this.asked++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, task, asked });
    });
  }

  #settle({ id, result, error }) {
    const { resolve, reject } = this.waiting.get(id);
    this.waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  }
}
