// Chromium on a page of `--target web`: texts are typed into it, and what it shows is read.
//
// node SCRIPT SPEC.json RESULT.json; the forms of both are described in browser.py.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const installed = createRequire(join(process.env.FINEGATES_NODE_MODULES, "package.json"));
const puppeteer = installed("puppeteer-core");
const [specPath, resultPath] = process.argv.slice(2);
const spec = JSON.parse(readFileSync(specPath, "utf-8"));
const READY = "#run:not([disabled])";

const browser = await puppeteer.launch({
  executablePath: spec.browser,
  args: ["--no-sandbox", "--disable-gpu"],
  userDataDir: spec.profile,
});
try {
  writeFileSync(resultPath, JSON.stringify(await visit(await browser.newPage())));
} finally {
  await browser.close();
}

async function visit(page) {
  const said = [];
  const requested = [];
  page.setDefaultTimeout(spec.seconds * 1000);
  page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => said.push(`error: ${error.message}`));
  page.on("request", (request) => requested.push(request.url()));
  await page.setViewport({ width: spec.width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: spec.scheme }]);
  if (spec.cores) {
    const pretend = (cores) => Object.defineProperty(navigator, "hardwareConcurrency", { get: () => cores });
    await page.evaluateOnNewDocument(pretend, spec.cores);
  }
  await page.goto(spec.url);
  await page.waitForSelector(`${READY}, #status.wrong`);
  const answers = [];
  for (const form of (await page.$(READY)) ? spec.forms : []) {
    await page.click(`input[value="${form}"]`);
    await page.waitForSelector(READY);
    for (const text of spec.texts) answers.push({ form, text, ...(await typed(page, text)) });
  }
  if (spec.screenshot) await page.screenshot({ path: spec.screenshot, fullPage: true });
  const measured = await page.evaluate(() => ({
    needed: document.documentElement.scrollWidth,
    background: getComputedStyle(document.body).backgroundColor,
  }));
  return { answers, said, requested, ...measured, status: await page.$eval("#status", (status) => status.textContent) };
}

async function typed(page, text) {
  await page.$eval("#text", (area) => area.select());
  await page.type("#text", text);
  await page.keyboard.press("Enter");
  await page.waitForSelector(`${READY}, #status.wrong`);
  return page.evaluate(() => {
    const words = (row, place) => row.querySelector(place)?.textContent;
    const scores = [...document.querySelectorAll("#scores li")];
    const models = [...document.querySelectorAll("#models li")];
    return {
      label: document.getElementById("label").textContent,
      scores: Object.fromEntries(scores.map((row) => [words(row, ".name"), parseFloat(words(row, ".value")) / 100])),
      times: Object.fromEntries(models.map((row) => [row.id, parseFloat(words(row, ".time"))])),
      says: Object.fromEntries(models.map((row) => [row.id, words(row, ".says")])),
      ratio: parseFloat(words(document, "#ratio strong")),
      how: words(document, "#how"),
    };
  });
}
