// Transformers.js on a bundle whose graphs lie under onnx/.
//
// node SCRIPT SPEC.json RESULT.json; the forms of both are described in ../harness.py.

import { readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const installed = createRequire(join(process.env.FINEGATES_NODE_MODULES, "package.json"));
const { AutoModel, AutoModelForSequenceClassification, AutoTokenizer, env, pipeline } =
  installed("@huggingface/transformers");

const [specPath, resultPath] = process.argv.slice(2);
const spec = JSON.parse(readFileSync(specPath, "utf-8"));
env.allowRemoteModels = false;
const name = "bundle"; // a link, since a folder whose name could not be a hub's is looked for elsewhere
env.localModelPath = dirname(resultPath);
rmSync(join(env.localModelPath, name), { force: true });
symlinkSync(spec.bundle, join(env.localModelPath, name));
const loading = { dtype: spec.quantized ? "q8" : "fp32", session_options: { intraOpNumThreads: 1 } };
const firsts = spec.texts.map(([text]) => text);
const seconds = spec.texts.flatMap(([, pair]) => pair ?? []);

async function tokenize() {
  const tokenizer = await AutoTokenizer.from_pretrained(name);
  const pairs = seconds.length ? { text_pair: seconds } : {};
  return tokenizer(firsts, { padding: true, truncation: true, return_token_type_ids: true, ...pairs });
}

const KINDS = {
  async "sequence-classification"() {
    const model = await AutoModelForSequenceClassification.from_pretrained(name, loading);
    const { logits } = await model(await tokenize());
    return { logits: logits.tolist() };
  },
  async "feature-extraction"() {
    const model = await AutoModel.from_pretrained(name, loading);
    const { last_hidden_state: hidden } = await model(await tokenize());
    return { last_hidden_state: hidden.tolist() };
  },
  async "sentence-embedding"() {
    const extract = await pipeline("feature-extraction", name, loading);
    const embeddings = await extract(firsts, { pooling: "mean", normalize: true });
    return { sentence_embedding: embeddings.tolist() };
  },
};

const outputs = await KINDS[spec.kind]();
writeFileSync(resultPath, JSON.stringify({ outputs, version: `Transformers.js ${env.version}` }));
