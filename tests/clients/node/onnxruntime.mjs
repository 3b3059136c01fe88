// onnxruntime-node on a bundle's graph.
//
// node SCRIPT SPEC.json RESULT.json; the forms of both are described in ../harness.py.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const installed = createRequire(join(process.env.FINEGATES_NODE_MODULES, "package.json"));
const { InferenceSession, Tensor } = installed("onnxruntime-node");
const { version } = installed("onnxruntime-node/package.json");

function toTensor(rows) {
  const values = BigInt64Array.from(rows.flat(), BigInt);
  return new Tensor("int64", values, [rows.length, rows[0].length]);
}

function toRows(values, dims) {
  if (dims.length === 1) return Array.from(values);
  const size = values.length / dims[0];
  return Array.from({ length: dims[0] }, (_, row) =>
    toRows(values.subarray(row * size, (row + 1) * size), dims.slice(1)),
  );
}

const [specPath, resultPath] = process.argv.slice(2);
const spec = JSON.parse(readFileSync(specPath, "utf-8"));
const graph = join(spec.bundle, spec.quantized ? "model_quantized.onnx" : "model.onnx");
const session = await InferenceSession.create(graph, { intraOpNumThreads: 1 });
const feed = Object.fromEntries(session.inputNames.map((name) => [name, toTensor(spec.inputs[name])]));
const computed = await session.run(feed);
const outputs = Object.fromEntries(
  session.outputNames.map((name) => [name, toRows(computed[name].data, computed[name].dims)]),
);
writeFileSync(resultPath, JSON.stringify({ outputs, version: `onnxruntime-node ${version}` }));
