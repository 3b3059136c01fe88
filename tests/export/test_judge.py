"""The chain judges each task by its own predictions, output by output, and only where something counts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from finegates_export.common.tasks import NO_LABEL, TASKS
from finegates_export.common.tasks.pooling import Pooling
from finegates_export.errors import ChainError
from finegates_export.verification.chain import Chain
from finegates_export.verification.inputs import LONGEST, longest_sequence, make_inputs
from finegates_export.verification.link import Tolerances
from tests.export.compare import NAMES
from tests.tiny import tiny_samples

ROWS, VOCABULARY, HIDDEN, LABELS = 24, 40, 6, 3
CONFIG = SimpleNamespace(vocab_size=VOCABULARY, num_channels=3, image_size=8)
ANY = {"agreement": 0.0, "metric_points": 200.0}


def hidden_of(inputs):
    if "pixel_values" in inputs:
        return inputs["pixel_values"].reshape(len(inputs["pixel_values"]), -1, HIDDEN)
    ids = inputs["input_ids"].astype(np.float32)[..., None]
    return np.sin(ids * np.arange(1, HIDDEN + 1) + np.arange(ids.shape[1])[None, :, None]).astype(np.float32)


def form_of(task):
    """A small model in numpy with the outputs of a task."""

    def form(inputs):
        hidden = hidden_of(inputs)
        outputs = {"last_hidden_state": hidden}
        if task.labels_tokens:
            outputs["logits"] = hidden[..., :LABELS] * 2
        elif task.reads_windows:
            outputs |= {"start_logits": hidden[..., 0] * 3, "end_logits": hidden[..., 1] * 3}
        elif task.has_head:
            outputs["logits"] = hidden[:, min(1, hidden.shape[1] - 1), : LABELS if task.named_labels else 1] * 2
        return outputs

    return form


def chain_of(name, *, samples=True, labels=None, pooling=None, metric="", **tolerances):
    task = TASKS[name]
    rows = tiny_samples(task, ROWS) if samples else None
    if rows is not None and task.images:
        rows["pixel_values"] = rows["pixel_values"][..., :8, :8].contiguous()
    if rows is not None and labels is not None:
        rows["labels"] = labels
    batches = make_inputs(rows, task, CONFIG, ("pixel_values",) if task.images else NAMES, 16)
    chain = Chain(name, batches, Tolerances(**{**ANY, **tolerances}), pooling=pooling, metric=metric)
    chain.set_reference(form_of(task))
    return chain


def altered(task, change):
    def form(inputs):
        outputs = {name: array.copy() for name, array in form_of(task)(inputs).items()}
        change(outputs, inputs)
        return outputs

    return form


@pytest.mark.parametrize("name", TASKS)
def test_an_equal_form_agrees_and_every_output_is_held(name):
    task = TASKS[name]
    link = chain_of(name).add("equal", form_of(task))
    assert link.relative == 0.0
    assert link.agreement == pytest.approx(1.0)
    for output in task.outputs:

        def shift(outputs, _inputs, output=output):
            outputs[output].reshape(-1)[0] += 1e-2

        with pytest.raises(ChainError, match=r"^moved differs from the gated model"):
            chain_of(name).add("moved", altered(task, shift))

        def lose(outputs, _inputs, output=output):
            del outputs[output]

        with pytest.raises(ChainError, match=f"^lost does not return the output {output}"):
            chain_of(name).add("lost", altered(task, lose))


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if not task.images])
def test_a_small_output_is_held_to_its_own_scale(name):
    """An output a thousand times smaller than another may not hide behind it."""
    task = TASKS[name]
    chain = chain_of(name)

    def enlarge(inputs):
        outputs = form_of(task)(inputs)
        return {**outputs, task.outputs[0]: outputs[task.outputs[0]] * 1e-3}

    small = Chain(name, chain.batches, Tolerances(**ANY))
    small.set_reference(enlarge)
    with pytest.raises(ChainError, match=r"^wrong differs"):
        small.add(
            "wrong", lambda inputs: {**enlarge(inputs), task.outputs[0]: enlarge(inputs)[task.outputs[0]] * 1.001}
        )


@pytest.mark.parametrize("name", ["token-classification", "question-answering", "feature-extraction"])
def test_values_of_tokens_count_where_they_are_attended_to(name):
    task = TASKS[name]

    def spoil_padding(outputs, inputs):
        for output in task.outputs:
            outputs[output][inputs["attention_mask"] == 0] = 99.0

    link = chain_of(name).add("other padding", altered(task, spoil_padding))
    assert (link.relative, link.agreement) == (0.0, pytest.approx(1.0))

    def spoil_last(outputs, inputs):
        last = int(inputs["attention_mask"][0].sum()) - 1
        outputs[task.outputs[0]][0, last] += 1.0

    with pytest.raises(ChainError, match="differs"):
        chain_of(name).add("other token", altered(task, spoil_last))


def first_real_row(change):
    """Change the first row of the first batch alone."""
    seen = []

    def once(outputs, _inputs):
        if not seen:
            change(outputs)
        seen.append(1)

    return once


@pytest.mark.parametrize(
    ("name", "change", "agreement"),
    [
        ("classification", lambda o: o["logits"][0].__imul__(-1), 1 - 1 / ROWS),
        ("image-classification", lambda o: o["logits"][0].__imul__(-1), 1 - 1 / ROWS),
        ("multi-label", lambda o: o["logits"][0, :1].__imul__(-1), 1 - 1 / (ROWS * LABELS)),
        ("question-answering", lambda o: o["start_logits"][0].__imul__(-1), 1 - 1 / ROWS),
        ("question-answering", lambda o: o["end_logits"][0].__imul__(-1), 1 - 1 / ROWS),
    ],
)
def test_agreement_counts_the_tasks_own_predictions(name, change, agreement):
    link = chain_of(name).add("changed", altered(TASKS[name], first_real_row(change)), exact=False)
    assert link.agreement == pytest.approx(agreement)


def test_agreement_on_tokens_is_counted_token_by_token():
    chain = chain_of("token-classification")
    tokens = sum(int(batch.attended.sum()) for batch in chain.batches if batch.real)

    def change(outputs):
        outputs["logits"][0, 1] *= -1

    link = chain.add("changed", altered(TASKS["token-classification"], first_real_row(change)), exact=False)
    assert link.agreement == pytest.approx(1 - 1 / tokens)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [("feature-extraction", None), ("embedding", Pooling("mean", True)), ("embedding", Pooling("cls", False))],
)
def test_vectors_agree_by_their_direction(name, pooling):
    def longer(outputs, _inputs):
        outputs["last_hidden_state"] *= 3

    def turned(outputs, _inputs):
        outputs["last_hidden_state"] *= -1

    link = chain_of(name, pooling=pooling).add("longer", altered(TASKS[name], longer), exact=False)
    assert link.agreement == pytest.approx(1.0)
    with pytest.raises(ChainError, match=r"^turned gives vectors of a mean cosine similarity of -100.00%"):
        chain_of(name, pooling=pooling, agreement=0.99).add("turned", altered(TASKS[name], turned), exact=False)


def test_cls_reads_the_first_token_alone():
    def others(outputs, _inputs):
        outputs["last_hidden_state"][:, 1:, :2] = 0

    task = TASKS["embedding"]
    links = [
        chain_of("embedding", pooling=Pooling(mode, False)).add("others", altered(task, others), exact=False)
        for mode in ("cls", "mean")
    ]
    assert links[0].agreement == pytest.approx(1.0)
    assert links[1].agreement < 0.99


def truth_of(name, chain):
    """The reference's own predictions as labels, row by row in the samples' order."""
    task, samples = TASKS[name], tiny_samples(TASKS[name], ROWS)
    if task.images:
        samples["pixel_values"] = samples["pixel_values"][..., :8, :8].contiguous()
    inputs = {key: value.numpy() for key, value in samples.items() if key != "labels"}
    outputs = form_of(task)(inputs)
    if task.reads_windows:
        mask = inputs["attention_mask"] > 0
        ends = [np.where(mask, outputs[end], -np.inf).argmax(-1) for end in ("start_logits", "end_logits")]
        return torch.from_numpy(np.stack(ends, -1))
    if task.several_labels:
        return torch.from_numpy(outputs["logits"] > 0).float()
    predicted = outputs["logits"].argmax(-1)
    if task.labels_tokens:
        predicted = np.where(inputs["attention_mask"] > 0, predicted, NO_LABEL)
        predicted[:, 0] = NO_LABEL
    return torch.from_numpy(predicted)


@pytest.mark.parametrize(
    "name", ["classification", "multi-label", "token-classification", "question-answering", "image-classification"]
)
def test_the_metric_is_one_where_all_labels_are_met_and_falls_with_a_wrong_one(name):
    truth = truth_of(name, None)
    assert chain_of(name, labels=truth).add("equal", form_of(TASKS[name])).metric == 1.0
    wrong = truth.clone()
    flat = wrong.view(-1)
    place = int((flat != NO_LABEL).nonzero()[0])
    flat[place] = 1 - flat[place] if flat[place] in (0, 1) else 0
    counted = int((flat != NO_LABEL).sum()) if name in ("multi-label", "token-classification") else ROWS
    metric = "exact_match" if name == "question-answering" else "accuracy"
    link = chain_of(name, labels=wrong, metric=metric).add("equal", form_of(TASKS[name]))
    assert link.metric == pytest.approx(1 - 1 / counted)
    assert link.metric_lost == 0.0


def test_pairs_stay_together_and_are_scored_by_their_cosine():
    rows = tiny_samples(TASKS["embedding"], ROWS)
    pooling = Pooling("mean", True)
    hidden = hidden_of({"input_ids": rows["input_ids"].numpy()})
    mask = rows["attention_mask"].numpy()[..., None]
    vectors = (hidden * mask).sum(1) / mask.sum(1)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    cosines = torch.from_numpy((vectors[0::2] * vectors[1::2]).sum(-1))
    chain = chain_of("embedding", labels=cosines * 4 + 1, pooling=pooling)
    assert chain.add("equal", form_of(TASKS["embedding"])).metric == pytest.approx(1.0, abs=1e-5)
    shuffled = chain_of("embedding", labels=cosines.roll(1), pooling=pooling)
    assert shuffled.add("equal", form_of(TASKS["embedding"])).metric < 0.9
    assert chain.real_rows == ROWS


def test_without_labels_rows_count_and_there_is_no_metric():
    chain = chain_of("feature-extraction")
    assert chain.real_rows == ROWS
    assert chain.add("equal", form_of(TASKS["feature-extraction"])).metric is None


def test_random_images_have_the_size_of_the_config():
    batches = chain_of("image-classification", samples=False).batches
    assert [batch.inputs["pixel_values"].shape for batch in batches] == [(2, 3, 8, 8)]
    assert batches[0].attended is None
    assert batches[0].inputs["pixel_values"].std() > 0.5


@pytest.mark.parametrize(("takes", "run", "longest"), [(64, 32, 64), (8192, 128, LONGEST), (8192, 2048, 2048)])
def test_random_rows_are_as_long_as_the_model_takes_within_reason(takes, run, longest):
    family = SimpleNamespace(max_length=lambda _config: takes)
    assert longest_sequence(family, None, run) == longest
