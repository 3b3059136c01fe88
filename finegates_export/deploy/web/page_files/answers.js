// From logits to what a reader sees, task by task: a headline and the labels' scores, as the runtime gives them.

const READERS = {
  classification(labels, logits) {
    const scores = ranked(labels, softmax(logits));
    return { headline: scores[0].label, short: `${scores[0].label}, ${percent(scores[0].score)}`, scores };
  },
  "multi-label"(labels, logits) {
    const scores = ranked(labels, logits.map((logit) => 1 / (1 + Math.exp(-logit))));
    const headline = scores.filter(({ score }) => score > 0.5).map(({ label }) => label).join(", ") || "no label";
    return { headline, short: headline, scores };
  },
  regression(_labels, [logit]) {
    const headline = logit.toFixed(3);
    return { headline, short: headline, scores: [] };
  },
};

export function readAnswer(task, labels, logits) {
  return READERS[task](labels, logits);
}

export function percent(share) {
  return `${(100 * share).toFixed(1)}\u00a0%`;
}

function ranked(labels, scores) {
  return labels.map((label, at) => ({ label, score: scores[at] })).sort((one, other) => other.score - one.score);
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const sum = powers.reduce((total, power) => total + power);
  return powers.map((power) => power / sum);
}
