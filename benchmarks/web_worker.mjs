// Times the models of a page's folder in Chromium, with the page's own code: a fresh browser, one shape, one form.
//
// node SCRIPT SPEC.json RESULT.json
// SPEC    {"url", "browser": its program, "profile": its folder, "folders": {name: path}, "dtype", "batch", "sequence",
//          "inputs": names, "vocabulary", "rounds", "seconds"}
// RESULT  {"taken": {name: [milliseconds, ...]}, "threads", "libraries", "browser"}

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const installed = createRequire(join(process.env.FINEGATES_NODE_MODULES, "package.json"));
const puppeteer = installed("puppeteer-core");
const [specPath, resultPath] = process.argv.slice(2);
const spec = JSON.parse(readFileSync(specPath, "utf-8"));

const browser = await puppeteer.launch({
  executablePath: spec.browser,
  args: ["--no-sandbox", "--disable-gpu"],
  userDataDir: spec.profile,
  protocolTimeout: 0,
});
try {
  const page = await browser.newPage();
  // The page itself would load models of its own.
  await page.setRequestInterception(true);
  page.on("request", (request) => (request.url().endsWith("/page/page.js") ? request.abort() : request.continue()));
  await page.goto(spec.url);
  const told = await page.evaluate(timed, spec);
  writeFileSync(resultPath, JSON.stringify({ ...told, browser: await browser.version() }));
} finally {
  await browser.close();
}

async function timed({ folders, dtype, batch, sequence, inputs, vocabulary, rounds, seconds }) {
  const library = await import(new URL("page/models.js", document.baseURI).href);
  const models = {};
  for (const [name, path] of Object.entries(folders)) models[name] = await library.loadModel(path, dtype);
  const tokens = Array.from({ length: batch * sequence }, (_, at) => (at * 7919 + 11) % vocabulary);
  const values = { input_ids: tokens, attention_mask: tokens.map(() => 1), token_type_ids: tokens.map(() => 0) };
  const columns = Object.fromEntries(inputs.map((name) => [name, values[name]]));
  const feed = library.toInputs(columns, batch);
  const { taken } = await library.timeInTurns(models, feed, {
    fewest: rounds,
    most: Infinity,
    milliseconds: seconds * 1000,
  });
  return { taken, threads: library.threads(), libraries: library.LIBRARIES };
}
