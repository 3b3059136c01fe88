"""The chain accepts what is equal and refuses everything else, by name, and then nothing is written."""

from __future__ import annotations

from pkgutil import resolve_name
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from onnx_ir.passes import PassResult

from finegates_export.common.tasks import TASKS
from finegates_export.common.tasks.metrics import spearman
from finegates_export.errors import ChainError
from finegates_export.graphs.passes.graph_pass import GraphPass
from finegates_export.pipeline.export import export
from finegates_export.pipeline.options import ExportOptions
from finegates_export.verification.chain import Chain
from finegates_export.verification.inputs import make_inputs
from finegates_export.verification.link import Tolerances
from tests.export.compare import NAMES, path_of
from tests.tiers import tiered
from tests.tiny import LORA, tiny_samples

VOCABULARY, LONGEST, LABELS, HIDDEN = 40, 24, 3, 5


def model_form(inputs):
    """A small model in numpy: logits and last hidden state, different at every id and position."""
    ids = inputs["input_ids"].astype(np.float32)[..., None]
    position = np.arange(ids.shape[1], dtype=np.float32)[None, :, None]
    hidden = np.sin(ids * np.arange(1, HIDDEN + 1) + position).astype(np.float32)
    masked = hidden * inputs["attention_mask"][..., None]
    return {"logits": masked.sum(1)[:, :LABELS] / 2, "last_hidden_state": hidden}


def changed(batch_number, what, change):
    """The same model, but for one of its outputs in one batch, or in all where None."""
    calls = []

    def form(inputs):
        outputs = {name: array.copy() for name, array in model_form(inputs).items()}
        if batch_number in (None, len(calls)):
            outputs[what] = change(outputs[what])
        calls.append(1)
        return outputs

    return form


def inputs_for(rows, task="classification", longest=LONGEST, seed=0):
    return make_inputs(rows, TASKS[task], SimpleNamespace(vocab_size=VOCABULARY), NAMES, longest, seed)


def a_chain(task="classification", samples=True, **tolerances):
    rows = tiny_samples(TASKS[task], 40) if samples else None
    chain = Chain(task, inputs_for(rows, task), Tolerances(**tolerances))
    chain.set_reference(model_form)
    return chain


BATCHES = len(a_chain().batches)
PLACES = {"first": 0, "middle": BATCHES // 2, "last": BATCHES - 1}


def nan_inside(array):
    array.reshape(-1)[0] = np.nan  # the first token of the first row is always attended
    return array


def test_an_equal_form_passes_and_is_recorded():
    chain = a_chain()
    link = chain.add("equal", model_form)
    assert (link.absolute, link.relative, link.hidden_relative, link.agreement) == (0.0, 0.0, 0.0, 1.0)
    assert link.metric_lost == 0.0
    assert chain.links == [link]


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "quantized"])
@pytest.mark.parametrize("what", ["logits", "last_hidden_state"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["nan", "inf"])
def test_a_value_that_is_not_finite_anywhere_is_refused(value, place, what, exact):
    def spoil(array):
        array.reshape(-1)[0] = value
        return array

    with pytest.raises(ChainError, match=r"^broken returns NaN or infinite values"):
        a_chain().add("broken", changed(PLACES[place], what, spoil), exact=exact)


@pytest.mark.parametrize("what", ["logits", "last_hidden_state"])
@pytest.mark.parametrize("place", PLACES)
def test_a_reference_that_is_not_finite_is_refused(place, what):
    chain = Chain("classification", inputs_for(tiny_samples(TASKS["classification"], 40)), Tolerances())
    with pytest.raises(ChainError, match="the gated model itself returns NaN"):
        chain.set_reference(changed(PLACES[place], what, nan_inside))


@pytest.mark.parametrize("what", ["logits", "last_hidden_state"])
@pytest.mark.parametrize("place", PLACES)
def test_one_wrong_value_in_any_batch_fails_the_link_by_name(place, what):
    def shift(array):
        array[0, 0] += 1e-3
        return array

    chain = a_chain()
    with pytest.raises(ChainError, match=r"^shrunk differs from the gated model by .* more than 1e-04"):
        chain.add("shrunk", changed(PLACES[place], what, shift))
    a_chain(float32=0.1).add("shrunk", changed(PLACES[place], what, shift))


def test_padding_may_differ():
    def shift_padding(inputs):
        outputs = model_form(inputs)
        hidden = outputs["last_hidden_state"]
        return {**outputs, "last_hidden_state": np.where(inputs["attention_mask"][..., None] > 0, hidden, 99.0)}

    assert a_chain().add("other padding", shift_padding).hidden_relative == 0.0


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "quantized"])
@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("logits", lambda logits: np.concatenate([logits, logits[:, :1]], 1)),
        ("logits", lambda logits: logits[:, :1]),
        ("last_hidden_state", lambda hidden: np.concatenate([hidden, hidden], 2)),
        ("last_hidden_state", lambda hidden: hidden[..., :1]),
        pytest.param("logits", lambda logits: logits[:-1]),
        pytest.param("last_hidden_state", lambda hidden: hidden[:, :-1]),
    ],
    ids=["a label more", "one label", "wider", "narrower", "a row less", "a token less"],
)
def test_another_shape_is_refused_even_where_it_would_broadcast(what, change, exact):
    with pytest.raises(ChainError, match=r"^reshaped "):
        a_chain().add("reshaped", changed(None, what, change), exact=exact)


def flipped(rows):
    """The model with other predictions on the first rows of the first batch."""

    def flip(logits):
        logits[:rows] = -logits[:rows]
        return logits

    return changed(0, "logits", flip)


@pytest.mark.parametrize(
    ("rows", "agreement", "passes"), [(0, 1.0, True), (1, 1.0, False), (4, 0.9, True), (5, 0.9, False)]
)
def test_a_quantized_link_is_held_to_equal_predictions_on_real_rows(rows, agreement, passes):
    chain = a_chain(agreement=agreement, metric_points=100.0)
    assert chain.real_rows == 40
    if passes:
        assert chain.add("int8", flipped(rows), exact=False).agreement == 1 - rows / 40
        return
    told = rf"^int8 agrees with the gated model on {1 - rows / 40:.2%} of the predictions, less than {agreement:.2%}: "
    with pytest.raises(ChainError, match=told + rf"{rows} of 40 differ, and {4 if agreement < 1 else 0} may"):
        chain.add("int8", flipped(rows), exact=False)


def test_a_quantized_link_without_real_rows_is_judged_on_the_random_ones():
    chain = a_chain(samples=False)
    assert chain.real_rows == 0
    with pytest.raises(ChainError, match=r"^int8 agrees"):
        chain.add("int8", flipped(2), exact=False)


def truthful(inputs):
    """A model that is right on every row, to be compared with one that is right on fewer."""
    rows = tiny_samples(TASKS["classification"], 40)
    known = {tuple(ids[mask.bool()].tolist()): int(y) for ids, mask, y in zip(
        rows["input_ids"], rows["attention_mask"], rows["labels"], strict=True)}  # fmt: skip
    words = [
        tuple(ids[mask > 0].tolist()) for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    ]
    logits = np.eye(LABELS, dtype=np.float32)[[known.get(row, 0) for row in words]]
    return {**model_form(inputs), "logits": logits}


@pytest.mark.parametrize(("points", "passes"), [(5.01, True), (4.9, False)])
def test_a_quantized_link_is_held_to_the_metric(points, passes):
    chain = Chain("classification", a_chain().batches, Tolerances(agreement=0.0, metric_points=points))
    chain.set_reference(truthful)
    calls = []

    def two_rows_wrong(inputs):
        outputs = truthful(inputs)
        if not calls:
            outputs["logits"][:2] *= -1
        calls.append(1)
        return outputs

    if passes:
        assert chain.add("int8", two_rows_wrong, exact=False).metric_lost == pytest.approx(0.05)
        return
    with pytest.raises(ChainError, match=r"^int8 loses 5\.00 points of the metric accuracy, more than 4\.90"):
        chain.add("int8", two_rows_wrong, exact=False)


def one_score(inputs, factor=-1.0):  # the sign that goes with the labels
    outputs = model_form(inputs)
    return {**outputs, "logits": outputs["logits"][:, :1] * factor}


def regression_chain(samples=True):
    chain = a_chain("regression", samples)
    chain = Chain("regression", chain.batches, Tolerances())
    chain.set_reference(one_score)
    return chain


def test_regression_is_held_to_the_correlation_with_the_labels():
    link = regression_chain().add("int8", lambda inputs: one_score(inputs, -1.01), exact=False)
    assert link.agreement == pytest.approx(1.0)
    assert link.metric_lost == pytest.approx(0.0, abs=1e-6)
    truth = np.concatenate([b.labels for b in regression_chain().batches if b.labels is not None])
    predicted = np.concatenate(
        [one_score(b.inputs)["logits"][:, 0] for b in regression_chain().batches if b.labels is not None]
    )
    assert link.metric == pytest.approx(spearman(truth, predicted), abs=1e-5)
    assert link.metric > 0.01
    with pytest.raises(ChainError, match=r"^int8 correlates"):
        regression_chain().add("int8", lambda inputs: one_score(inputs, 1.0), exact=False)


def test_a_regression_that_lost_all_it_knew_is_refused():
    with pytest.raises(ChainError):
        regression_chain().add("int8", lambda inputs: one_score(inputs, 0.0), exact=False)


def test_a_regression_without_labelled_rows_is_held_to_something():
    with pytest.raises(ChainError):
        regression_chain(samples=False).add("int8", lambda inputs: one_score(inputs, 1.0), exact=False)


def test_links_are_dropped_by_the_start_of_their_names():
    chain = a_chain()
    for name in ("folded", "int8, fused", "int8, as delivered", "ONNX int8"):
        chain.add(name, model_form)
    chain.drop("int8")
    assert [link.name for link in chain.links] == ["folded", "ONNX int8"]


@pytest.mark.parametrize("longest", [1, 8, 64])
def test_random_inputs_have_lengths_one_odd_and_maximum_and_padding(longest):
    batches = inputs_for(None, longest=longest)
    lengths = [batch.inputs["input_ids"].shape[1] for batch in batches]
    assert lengths == {1: [1], 8: [1, 8], 64: [1, 13, 64]}[longest]
    for batch, length in zip(batches, lengths, strict=True):
        assert all(array.dtype == np.int64 and array.shape == (2, length) for array in batch.inputs.values())
        assert batch.attended[:, 0].all()
        assert batch.attended[0].all()
        assert batch.attended[1].all() == (length == 1)
        assert 0 <= batch.inputs["input_ids"].min() <= batch.inputs["input_ids"].max() < VOCABULARY
    one, other = (inputs_for(None, longest=64, seed=seed)[2].inputs["input_ids"] for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_real_rows_come_first_sorted_by_length_each_once_with_its_label():
    samples = tiny_samples(TASKS["classification"], 40)
    batches = [batch for batch in inputs_for(samples) if batch.labels is not None]
    lengths = np.concatenate([batch.attended.sum(1) for batch in batches])
    assert (np.diff(lengths) >= 0).all()
    assert all(batch.inputs["input_ids"].shape[1] == batch.attended.sum(1).max() for batch in batches)
    rows = [(tuple(ids[mask]), int(label)) for batch in batches for ids, mask, label in zip(
        batch.inputs["input_ids"], batch.attended, batch.labels, strict=True)]  # fmt: skip
    given = [(tuple(ids[mask.bool()].tolist()), int(label)) for ids, mask, label in zip(
        samples["input_ids"], samples["attention_mask"], samples["labels"], strict=True)]  # fmt: skip
    assert sorted(rows) == sorted(given)


@torch.no_grad()
def nudge(model):
    model.get_submodule(path_of("down", 0)).bias[0] += 0.5
    return model


def nudge_graph(graph):
    """Add to the classifier's bias."""
    import onnx_ir

    for value in graph.graph.initializers.values():
        if value.name.endswith("classifier.bias"):
            value.const_value = onnx_ir.tensor(value.const_value.numpy() + 0.5, name=value.name)
            return graph
    raise AssertionError("no such weight")


class NudgeGraph(GraphPass):
    def call(self, model):
        return PassResult(nudge_graph(model), modified=True)


def after(function, change):
    return lambda *args, **kwargs: change(function(*args, **kwargs))


WRONG_STEPS = {
    "folded": ("finegates_export.pruning.fold.fold", lambda real: after(real, nudge)),
    "shrunk torch": ("finegates_export.pruning.shrink.shrink", lambda real: after(real, nudge)),
    "ONNX, unoptimized": ("finegates_export.graphs.trace.write_graph", lambda real: after(real, nudge_graph)),
    "ONNX, ort-cpu": (
        "finegates_export.graphs.targets.ort_cpu.passes",
        lambda real: after(real, lambda passes: [*passes, NudgeGraph()]),
    ),
    "ONNX, as delivered": ("finegates_export.graphs.saving.keep_outputs", lambda real: after(real, nudge_graph)),
}


@pytest.mark.parametrize("step", tiered(WRONG_STEPS, fast=("folded",), default=("ONNX, ort-cpu",)))
def test_a_wrong_step_fails_the_export_by_its_name_and_leaves_nothing(workshop, tmp_path, monkeypatch, step):
    place, wrong = WRONG_STEPS[step]
    monkeypatch.setattr(place, wrong(resolve_name(place)))
    with pytest.raises(ChainError, match=f"^{step} differs from the gated model"):
        export(ExportOptions(ckpt=workshop.run("coupled", LORA, layers=1), out=tmp_path / "out" / "bundle", threads=1))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_a_graph_with_other_weights_than_planned_is_refused(workshop, tmp_path, monkeypatch):
    monkeypatch.setattr("finegates_export.pruning.plan.ShrinkPlan.kept_weights", property(lambda _plan: 12345))
    with pytest.raises(ChainError, match="the plan says 12,345; nothing was written"):
        export(ExportOptions(ckpt=workshop.run("coupled", LORA, layers=1), out=tmp_path / "model.onnx", threads=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", ["matrix", "coupled"])
def test_the_reference_is_the_gated_model_and_not_what_fold_made_of_it(workshop, tmp_path, monkeypatch, layout):
    """A fold that forgets the gates is refused, though everything behind it would agree with itself."""

    def forgetful(gated):
        return gated.detach_gates().merge_and_unload().eval()

    monkeypatch.setattr("finegates_export.pruning.fold.fold", forgetful)
    run = workshop.run(layout, LORA)
    with pytest.raises(ChainError, match=r"^folded differs"):
        export(ExportOptions(ckpt=run, out=tmp_path / "bundle", threads=1))
