// The models of this folder in Transformers.js: loaded, asked, and timed in turns.

import { AutoModelForSequenceClassification, AutoTokenizer, Tensor, env } from "@huggingface/transformers";

const WARM_UPS = 2;
const MOST_ROUNDS = 15;
const FEWEST_ROUNDS = 3;
const MILLISECONDS = 2000;

// Everything lies beside the page, where a new export may replace it: nothing is fetched from elsewhere or kept.
Object.assign(env, { allowLocalModels: true, allowRemoteModels: false, useBrowserCache: false, useWasmCache: false });
const { wasm, versions } = env.backends.onnx;
wasm.wasmPaths = new URL("../libraries/", import.meta.url).href;

export const LIBRARIES = `Transformers.js ${env.version}, onnxruntime-web ${versions.web} (WASM)`;

// Known once a model is loaded: several only where the server isolates the page.
export function threads() {
  return wasm.numThreads;
}

export function loadTokenizer(folder) {
  return AutoTokenizer.from_pretrained(folder);
}

export function loadModel(folder, dtype) {
  return AutoModelForSequenceClassification.from_pretrained(folder, { dtype, device: "wasm" });
}

// A text as the model reads it: cut where its training cut texts, with the marks around it kept. A text alone is all of
// segment 0.
export function readText(tokenizer, text, { max_length: longest, truncation_side: side }) {
  const columns = tokenizer(text, { return_tensor: false, return_token_type_ids: true });
  const marks = marksAround(tokenizer);
  const cutOff = ([name, values]) => [name, cut(values, longest, side, marks)];
  return toInputs(Object.fromEntries(Object.entries(columns).map(cutOff)), 1);
}

// How many tokens the tokenizer puts in front of a text and behind it.
function marksAround(tokenizer) {
  const [marked, bare] = [true, false].map(
    (add_special_tokens) => tokenizer("a", { add_special_tokens, return_tensor: false }).input_ids,
  );
  const ahead = marked.indexOf(bare[0]);
  return { ahead, behind: marked.length - ahead - bare.length };
}

export function toInputs(columns, rows) {
  return Object.fromEntries(
    Object.entries(columns).map(([name, values]) => [
      name,
      new Tensor("int64", BigInt64Array.from(values, BigInt), [rows, values.length / rows]),
    ]),
  );
}

function cut(values, longest, side, { ahead, behind }) {
  if (values.length <= longest) return values;
  if (side === "left") return [...values.slice(0, ahead), ...values.slice(values.length - longest + ahead)];
  return [...values.slice(0, longest - behind), ...values.slice(values.length - behind)];
}

export async function ask(model, inputs) {
  const { logits } = await model(inputs);
  return Array.from(logits.data);
}

// Medians in milliseconds by the models' names. In every round each runs once, in an order drawn anew, so that a device
// that slows down slows them all.
export async function timeInTurns(models, inputs, { fewest = FEWEST_ROUNDS, most = MOST_ROUNDS, milliseconds = MILLISECONDS } = {}) {
  const taken = Object.fromEntries(Object.keys(models).map((name) => [name, []]));
  const end = performance.now() + milliseconds;
  let rounds = -WARM_UPS;
  while (rounds < fewest || (rounds < most && performance.now() < end)) {
    for (const name of shuffled(Object.keys(models))) {
      const start = performance.now();
      await models[name](inputs);
      if (rounds >= 0) taken[name].push(performance.now() - start);
      await new Promise((resume) => setTimeout(resume)); // lets the page answer to its reader
    }
    rounds += 1;
  }
  const medians = Object.fromEntries(Object.entries(taken).map(([name, values]) => [name, median(values)]));
  return { medians, rounds, taken };
}

function shuffled(names) {
  return names
    .map((name) => [Math.random(), name])
    .sort(([one], [other]) => one - other)
    .map(([, name]) => name);
}

function median(values) {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
