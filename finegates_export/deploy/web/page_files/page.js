// The page: a text goes in, a label comes out, and both models' times are shown.

import { percent, readAnswer } from "./answers.js";
import { say, showAnswer, showFacts, showForms, showTimes, stale } from "./view.js";

const FORMS = {
  "model_quantized.onnx": { name: "int8", dtype: "q8" },
  "model.onnx": { name: "float32", dtype: "fp32" },
  "model_q4.onnx": { name: "int4", dtype: "q4" },
};
const VERBS = { classification: "Classify", "multi-label": "Label", regression: "Score" };
const INSTALL = "the libraries are missing: export with --web-libraries node_modules/, or see docs/web.md";

const form = document.getElementById("form");
const text = document.getElementById("text");
const run = document.getElementById("run");
const loaded = {};
let library, tokenizer, folders, bundle;

async function start() {
  say("Loading…");
  bundle = await readJson("./bundle.json");
  folders = { pruned: { path: "./", bundle } };
  if ("unpruned/bundle.json" in bundle.files) {
    folders.unpruned = { path: "./unpruned", bundle: await readJson("./unpruned/bundle.json") };
  }
  run.textContent = VERBS[bundle.task];
  showFacts(folders);
  library = await import("./models.js").catch((error) => {
    throw new Error(`${INSTALL} (${error.message})`);
  });
  const forms = Object.keys(FORMS).filter((file) =>
    Object.values(folders).every((folder) => folder.bundle.graphs.includes(`onnx/${file}`)),
  );
  showForms(forms.map((file) => FORMS[file].name));
  tokenizer = await library.loadTokenizer("./");
  await modelsOf(chosenForm());
  showFacts(folders, { runs: library.LIBRARIES, threads: library.threads() });
  ready();
}

async function readJson(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} cannot be read: status ${response.status}`);
  return response.json();
}

function chosenForm() {
  const name = new FormData(form).get("form");
  return Object.values(FORMS).find((one) => one.name === name);
}

// Every model in one form, each loaded once.
async function modelsOf({ name, dtype }) {
  const models = {};
  for (const [kind, { path }] of Object.entries(folders)) {
    const key = `${kind} ${dtype}`;
    if (!(key in loaded)) {
      say(`Loading the ${kind} model, ${name}…`);
      loaded[key] = await library.loadModel(path, dtype);
    }
    models[kind] = loaded[key];
  }
  return models;
}

async function answer() {
  if (run.disabled || !form.reportValidity()) return;
  busy();
  const chosen = chosenForm();
  const models = await modelsOf(chosen);
  say("Reading…");
  const inputs = library.readText(tokenizer, text.value, bundle.text);
  const answers = {};
  for (const [kind, model] of Object.entries(models)) {
    answers[kind] = readAnswer(bundle.task, bundle.labels, await library.ask(model, inputs));
    if (kind === "pruned") showAnswer(answers.pruned, percent);
  }
  say("Timing…");
  const times = await library.timeInTurns(models, inputs);
  const tokens = inputs.input_ids.dims[1];
  const cut = tokens === bundle.max_length ? ", the most that it reads" : "";
  showTimes({ folders, answers, ...times, form: chosen.name, tokens: `${tokens} tokens${cut}`, threads: library.threads() });
  ready();
  if (chosenForm() !== chosen) await answer(); // the reader did not wait for the end
}

function busy() {
  run.disabled = true;
  stale(true);
}

function ready() {
  run.disabled = false;
  stale(false);
  say("");
}

function failed(error) {
  run.disabled = library === undefined || tokenizer === undefined;
  say(`It went wrong: ${error.message}`, { wrong: true });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  answer().catch(failed);
});
form.addEventListener("change", (event) => {
  if (event.target.name === "form" && text.value) answer().catch(failed);
});
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  answer().catch(failed);
});
start().catch(failed);
