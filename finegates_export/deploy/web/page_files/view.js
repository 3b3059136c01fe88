// What the page shows, and nothing that it computes.

const MIB = 2 ** 20;
const MOST_SCORES = 10;
const NAMES = { pruned: "Pruned", unpruned: "Unpruned" };

function element(id) {
  return document.getElementById(id);
}

function made(template, texts) {
  const copy = element(template).content.firstElementChild.cloneNode(true);
  for (const [place, words] of Object.entries(texts)) copy.querySelector(place).textContent = words;
  return copy;
}

export function say(words, { wrong = false } = {}) {
  element("status").textContent = words;
  element("status").classList.toggle("wrong", wrong);
}

// What is shown belongs to an earlier text.
export function stale(isStale) {
  for (const id of ["answer", "times"]) element(id).classList.toggle("stale", isStale);
}

export function showForms(names) {
  for (const [number, name] of names.entries()) {
    const choice = made("form-choice", { span: name });
    Object.assign(choice.querySelector("input"), { value: name, checked: number === 0 });
    element("forms").append(choice);
  }
  element("forms").hidden = false;
}

export function showFacts({ pruned: { bundle }, unpruned }, { runs, threads } = {}) {
  const removed = `${Math.round(100 * bundle.report.plan.removed)}\u00a0%`;
  element("title").textContent = `${bundle.base.name}, ${removed} removed`;
  document.title = element("title").textContent;
  const facts = {
    Base: `${bundle.base.name}${bundle.base.licence ? ` (${bundle.base.licence})` : ""}`,
    Removed: `${removed} of the layers' linear weights`,
    [named(bundle.metric)]: metric(bundle, unpruned?.bundle),
    "Runs on": runs && `${runs}, ${counted(threads)}`,
  };
  const told = Object.entries(facts).filter(([, words]) => words);
  element("facts").replaceChildren(...told.flatMap(([name, words]) => [item("dt", name), item("dd", words)]));
}

function named(metric) {
  return metric[0].toUpperCase() + metric.slice(1).replaceAll("_", " ");
}

function metric({ metric: name, metrics }, unpruned) {
  const other = unpruned ? `; the unpruned model's is ${unpruned.metrics[name].toFixed(4)}` : "";
  return `${metrics[name].toFixed(4)} on the rows that training kept apart${other}`;
}

function counted(threads) {
  return threads === 1 ? "1 thread" : `${threads} threads`;
}

function item(tag, words) {
  return Object.assign(document.createElement(tag), { textContent: words });
}

export function showAnswer({ headline, scores }, percent) {
  element("label").textContent = headline;
  const shown = scores.slice(0, MOST_SCORES).map(({ label, score }, number) => {
    const row = made("score", { ".name": label, ".value": percent(score) });
    row.classList.toggle("first", number === 0);
    row.querySelector(".bar").style.setProperty("--share", `${100 * score}%`);
    return row;
  });
  element("scores").replaceChildren(...shown);
  element("answer").hidden = false;
}

export function showTimes({ folders, answers, medians, rounds, form, tokens, threads }) {
  const longest = Math.max(...Object.values(medians));
  const rows = Object.entries(folders).map(([kind, { bundle }]) => {
    const row = made("model", {
      h3: NAMES[kind],
      ".size": size(bundle.report, form),
      ".time": `${milliseconds(medians[kind])}\u00a0ms`,
      ".says": `says ${answers[kind].short}`,
    });
    row.id = kind;
    row.querySelector(".bar").style.setProperty("--share", `${(100 * medians[kind]) / longest}%`);
    return row;
  });
  element("models").replaceChildren(...rows);
  element("ratio").replaceChildren(...ratio(medians));
  element("how").textContent =
    `Median of ${rounds} rounds${rows.length > 1 ? " in which both took turns" : ""}; ${tokens}, ` +
    `${counted(threads)}. Other work on this device makes it longer.`;
  element("times").hidden = false;
}

function ratio({ pruned, unpruned }) {
  if (unpruned === undefined) return [];
  return ["The pruned model takes ", item("strong", (pruned / unpruned).toFixed(2)), " of the unpruned model's time."];
}

function milliseconds(value) {
  return value < 100 ? value.toFixed(1) : value.toFixed(0);
}

function size({ after, quantized }, form) {
  const bytes = form === "float32" ? after.size_bytes : quantized.size_bytes;
  const all = quantized && quantized.products + quantized.left_in_float.length;
  const linears = form === "float32" ? "" : `, ${quantized.products} of ${all} linears in ${form}`;
  return `${(bytes / MIB).toFixed(1)} MiB${linears}`;
}
