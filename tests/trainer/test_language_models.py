"""Language models train with gates and LoRA: what learns, what stays, what a run folder keeps, what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from finegates_export.common.tasks import NO_LABEL
from finegates_export.costs.counted_costs import counted_costs
from finegates_export.costs.model_widths import Mask, ModelWidths
from finegates_export.costs.speed_probe import SpeedProbe
from finegates_export.costs.timing.model_times import Rounds
from finegates_export.errors import InputError, UnsupportedError
from finegates_export.gates.layout import UnitKey
from finegates_export.sources.assemble import assemble, base_of
from finegates_export.sources.base import find_base
from finegates_export.sources.run_folder import Run, read_run
from finegates_trainer import TrainOptions, train
from finegates_trainer.learning.distillation import DistillationWeights, Teacher
from finegates_trainer.learning.metrics import compute_metrics
from finegates_trainer.learning.predictions import predictions_of
from finegates_trainer.running.reporter import Silent
from finegates_trainer.running.setup import prepare
from tests.trainer.conftest import write_rows
from tests.trainer.decoders import decoder_base, write_documents
from tests.trainer.test_distillation import loss_of
from tests.trainer.test_resume import KillAt, Killed

TASK = "text-generation"


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("decoders")
    made = {variant: decoder_base(root / variant, variant) for variant in ("llama", "gpt2")}
    return {**made, "untied": decoder_base(root / "untied", "llama", tied=False)}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_documents(tmp_path_factory.mktemp("text"))


def options(base: Path, rows: Path, out: Path, **changes: Any) -> TrainOptions:
    settings: dict[str, Any] = {
        "task": TASK, "max_steps": 24, "batch_size": 8, "max_length": 16, "save_steps": 5, "lora_rank": 2,
    }  # fmt: skip
    return TrainOptions(base=str(base), data=str(rows), out=out, **{**settings, **changes})


def plain_metrics(run: Run) -> dict[str, float]:
    """Of a run folder's model, from its own logits, over the samples that lie in it."""
    assert run.samples is not None
    labels = run.samples["labels"].long()
    inputs = {name: run.samples[name].long() for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        logits = assemble(run, base_of(run)).gated(**inputs).logits
    found = predictions_of(TASK, {"logits": logits.numpy()}, None, labels=labels)
    return compute_metrics(TASK, found, labels.tolist())


@pytest.mark.parametrize("layout", ["coupled", "matrix", "none"])
@pytest.mark.parametrize("variant", ["llama", "gpt2"])
def test_a_run_learns_ends_at_its_share_and_is_read_back(
    bases: dict[str, Path], text: Path, tmp_path: Path, variant: str, layout: str
) -> None:
    before = find_base(str(bases[variant])).tensor_hashes()
    settings: dict[str, Any] = {"layout": layout, "target_removed": 0.3, "learning_rate": 1e-2, "lora_rank": 4}
    first = train(options(bases[variant], text, tmp_path / "first", max_steps=1, layout="none", learning_rate=1e-9))
    run = train(options(bases[variant], text, tmp_path / "run", max_steps=60, **settings))
    assert run.info.metrics["perplexity"] < 0.8 * first.info.metrics["perplexity"]
    assert (run.info.metric, run.info.less_is_better) == ("perplexity", True)
    assert run.info.removed == pytest.approx(0.0 if layout == "none" else 0.3, abs=0.02)
    assert find_base(str(bases[variant])).tensor_hashes() == before == run.info.base_tensors
    assert run.head == {}, "the head is the base's"
    assert run.info.trained_parameters["lora"] > 0 == run.info.trained_parameters["head"]
    assert run.samples is not None
    assert len(run.samples["input_ids"]) == run.info.data["eval_rows"]
    assert plain_metrics(run) == pytest.approx(run.info.metrics, rel=1e-5)


@pytest.mark.slow
def test_an_exported_graph_is_scored_as_training_scored_the_model(
    bases: dict[str, Path], text: Path, tmp_path: Path
) -> None:
    from finegates_bench.measuring.quality import evaluation_rows, graph_metric
    from finegates_export import ExportOptions, export

    run = train(options(bases["llama"], text, tmp_path / "run", target_removed=0.3))
    export(ExportOptions(ckpt=run.folder, out=tmp_path / "model.onnx", threads=1))
    rows = evaluation_rows(run, ("input_ids", "attention_mask"), None)
    assert rows.examples is not None, rows.words
    found = graph_metric(tmp_path / "model.onnx", rows.examples, run, 1)
    assert found == pytest.approx(run.info.metrics["perplexity"], rel=1e-4)


def test_lora_reaches_both_linears_that_read_a_gated_networks_input(
    bases: dict[str, Path], text: Path, tmp_path: Path
) -> None:
    run = train(options(bases["llama"], text, tmp_path / "run", max_steps=2, lora_on=("up",)))
    assert run.adapter is not None
    adapted = {name.split(".")[-3] for name in load_file(run.adapter / "adapter_model.safetensors")}
    assert adapted == {"gate_proj", "up_proj"}


def test_the_checkpoint_of_the_least_perplexity_is_kept(bases: dict[str, Path], text: Path, tmp_path: Path) -> None:
    reporter = Silent()
    # So few rows are learned by heart, and the others are forgotten.
    few: dict[str, Any] = {"max_train_rows": 4, "eval_data": str(text)}
    settings: dict[str, Any] = {"eval_steps": 4, "max_steps": 60, "learning_rate": 0.03, "layout": "none", **few}
    run = train(options(bases["gpt2"], text, tmp_path / "run", **settings), reporter)
    seen = [metrics["perplexity"] for _, metrics in reporter.evaluations]
    assert run.info.metrics["perplexity"] == min(seen) < max(seen)
    assert min(seen) != seen[-1], "the last evaluation is the best: nothing could be chosen"


@pytest.mark.parametrize("killed_at", [4, 13, 22])
def test_a_resumed_run_repeats_the_uninterrupted_one(
    bases: dict[str, Path], text: Path, tmp_path: Path, killed_at: int
) -> None:
    whole = train(options(bases["gpt2"], text, tmp_path / "whole"))
    with pytest.raises(Killed):
        train(options(bases["gpt2"], text, tmp_path / "run"), KillAt(killed_at))
    resumed = train(options(bases["gpt2"], text, tmp_path / "run", resume=True))
    assert all(torch.equal(whole.gates[name], resumed.gates[name]) for name in whole.gates)
    adapters = [
        load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (whole.folder, resumed.folder)
    ]
    assert all(torch.equal(tensor, adapters[1][name]) for name, tensor in adapters[0].items())
    assert whole.info.metrics == resumed.info.metrics


def test_levels_rows_and_conversations(bases: dict[str, Path], tmp_path: Path) -> None:
    def messages(number: int) -> list[dict[str, str]]:
        asked = {"role": "user", "content": f"was the film {['odd', 'new', 'blue'][number % 3]}"}
        return [asked, {"role": "assistant", "content": ["sad", "fine", "great and lovely"][number % 3]}]

    rows = write_rows(tmp_path / "rows.jsonl", [{"messages": messages(number)} for number in range(40)])
    settings: dict[str, Any] = {"levels": (0.2, 0.4), "max_train_rows": 12, "eval_data": str(rows), "samples": 5}
    run = train(options(bases["llama"], rows, tmp_path / "run", max_length=8, **settings))
    assert [level.name for level in run.levels()] == ["0.20", "0.40"]
    assert (run.info.data["train_rows"], run.info.data["eval_rows"]) == (12, 40)
    assert run.info.data["cut_rows"] > 0 == run.info.data["dropped_rows"], (
        "a row of twelve tokens is read to its eighth"
    )
    assert run.samples is not None
    labels = run.samples["labels"].long()
    assert labels.shape == run.samples["input_ids"].shape
    assert ((labels != NO_LABEL).sum(1) > 0).all()
    assert (labels[:, :4] == NO_LABEL).all(), "what the user asks is not learned"
    template = read_run(run.levels()[0]).folder / "chat_template.jinja"
    assert template.is_file(), "the levels' tokenizer has lost its chat template"


def test_samples_are_as_many_as_their_logits_allow(
    bases: dict[str, Path], text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finegates_trainer.running.training.GENERATION_SAMPLES", 40)
    run = train(options(bases["llama"], text, tmp_path / "run", max_steps=1))
    assert run.samples is not None
    assert len(run.samples["input_ids"]) == 2


def test_a_head_of_its_own_trains_where_it_is_asked_for(bases: dict[str, Path], text: Path, tmp_path: Path) -> None:
    run = train(options(bases["untied"], text, tmp_path / "run", train_head=True, max_steps=6))
    assert [*run.head] == ["lm_head.weight"]
    stored = load_file(bases["untied"] / "model.safetensors")["lm_head.weight"]
    assert not torch.equal(run.head["lm_head.weight"], stored)
    assert plain_metrics(run) == pytest.approx(run.info.metrics, rel=1e-5)
    assert train(options(bases["untied"], text, tmp_path / "frozen", max_steps=1)).head == {}
    with pytest.raises(InputError, match=r"train-head: the head of .* is its embeddings"):
        prepare(options(bases["llama"], text, tmp_path / "tied", train_head=True))
    with pytest.raises(ValueError, match="train-head: applies to text-generation"):
        TrainOptions(base="x", data="y", out=tmp_path, train_head=True)


def test_all_weights_train_by_option_and_are_read_back(bases: dict[str, Path], text: Path, tmp_path: Path) -> None:
    whole: dict[str, Any] = {"layout": "none", "lora_rank": 0, "train_base": True, "learning_rate": 1e-3}
    run = train(options(bases["gpt2"], text, tmp_path / "run", max_steps=6, **whole))
    assert run.info.trained_parameters["base"] > 0
    assert plain_metrics(run) == pytest.approx(run.info.metrics, rel=1e-5)


@pytest.mark.slow
def test_a_teachers_logits_and_hidden_states_are_learned(bases: dict[str, Path], text: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"layout": "none", "learning_rate": 0.03}
    teacher = train(options(bases["llama"], text, tmp_path / "teacher", **settings))
    for number, weights in enumerate([(1.0, 0.0), (0.0, 1.0)]):
        training = prepare(options(bases["llama"], text, tmp_path / "run", layout="none"))
        same: dict[str, Any] = {"layout": "none", "max_steps": 1, "learning_rate": 1e-9}
        itself = train(options(bases["llama"], text, tmp_path / f"itself{number}", **same))
        near = DistillationWeights(*weights, 2.0)
        assert loss_of(training, Teacher(itself, training.gated, near)) < 1e-5
        far = loss_of(training, Teacher(teacher, training.gated, near))
        assert far > 1e-3
        twice = DistillationWeights(2 * weights[0], 2 * weights[1], 2.0)
        assert loss_of(training, Teacher(teacher, training.gated, twice)) == pytest.approx(2 * far, rel=1e-5)
    alone = train(options(bases["llama"], text, tmp_path / "alone"))
    taught = train(options(bases["llama"], text, tmp_path / "taught", teacher=teacher.folder, distill_hidden=0.5))
    assert any(not torch.equal(alone.gates[name], taught.gates[name]) for name in alone.gates)
    with pytest.raises(InputError, match="was trained for text-generation, not"):
        rows = write_rows(tmp_path / "rows.jsonl", [{"text": f"a {i}", "label": i % 2} for i in range(40)])
        prepare(options(bases["llama"], rows, tmp_path / "other", task="classification", teacher=teacher.folder))


def test_the_distance_to_a_teacher_is_the_divergence_at_learned_tokens(
    bases: dict[str, Path], text: Path, tmp_path: Path
) -> None:
    teacher = train(options(bases["gpt2"], text, tmp_path / "teacher", layout="none", learning_rate=0.03))
    training = prepare(options(bases["gpt2"], text, tmp_path / "run", layout="none"))
    inputs, labels = training.train_rows.collate(range(6))
    assert (inputs["input_ids"][inputs["attention_mask"] == 0] == training.preprocessor.eos_token_id).all()
    with torch.no_grad():
        theirs = assemble(teacher, base_of(teacher)).gated(**inputs).logits
        base = find_base(str(bases["gpt2"]))
        mine = base.load(TASK, ())(**inputs).logits
    logs = [(logits / 2.0).log_softmax(-1)[labels != NO_LABEL] for logits in (mine, theirs)]
    expected = 4.0 * (logs[1].exp() * (logs[1] - logs[0])).sum(-1).mean()
    found = loss_of(training, Teacher(teacher, training.gated, DistillationWeights(1.0, 0.0, 2.0)))
    assert found == pytest.approx(float(expected), rel=1e-4)


def test_what_cannot_be_trained_is_refused_with_a_remedy(bases: dict[str, Path], text: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"phase: 'both' is not one of prefill, decode"):
        options(bases["llama"], text, tmp_path / "run", target_speedup=(1.5,), phase="both")
    with pytest.raises(InputError, match=r"1x64 does not fit .* have 64 tokens"):
        train(options(bases["llama"], text, tmp_path / "run", target_speedup=(1.5,), shape="1x64"))
    with pytest.raises(InputError, match=r"max-length: .* has 64 positions, but 65 tokens were requested"):
        prepare(options(bases["llama"], text, tmp_path / "run", max_length=65))
    with pytest.raises(UnsupportedError, match="residual width"):
        prepare(options(bases["llama"], text, tmp_path / "run", width_gate=True))


@pytest.mark.parametrize("variant", ["llama", "gpt2"])
def test_a_decoder_without_a_padding_token_is_a_base_for_classification(
    variant: str, rows: Path, tmp_path: Path
) -> None:
    base = decoder_base(tmp_path / "base", variant)
    settings: dict[str, Any] = {
        "task": "classification",
        "max_steps": 120,
        "learning_rate": 1e-2,
        "target_removed": 0.3,
    }
    run = train(options(base, rows, tmp_path / "run", lora_rank=4, **settings))
    assert run.info.metrics["accuracy"] > 0.6
    assert run.info.removed == pytest.approx(0.3, abs=0.02)
    gated = assemble(run, base_of(run)).gated
    assert run.samples is not None
    inputs = {name: run.samples[name].long() for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        together = gated(**inputs).logits
        for row, mask in enumerate(inputs["attention_mask"]):
            alone = {name: tensor[row : row + 1, : int(mask.sum())] for name, tensor in inputs.items()}
            torch.testing.assert_close(gated(**alone).logits[0], together[row], atol=1e-5, rtol=1e-4)
    told = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    assert told["less_is_better"] is False
    assert math.isfinite(told["metrics"]["accuracy"])


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_run_reaches_a_speed_of_reading_or_of_writing(
    phase: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clock(probe: SpeedProbe, keep: dict[UnitKey, Mask], *, anew: bool = False) -> list[Rounds]:
        """A machine on which nothing but bytes, or operations, takes time; a third of it beside the layers."""
        costs = counted_costs(probe.structure, probe.shape, phase)  # type: ignore[arg-type]  # one of the two
        whole, pruned = (
            ModelWidths.of(kept, probe.structure).layers_ms(costs)
            for kept in ({key: np.ones_like(mask) for key, mask in keep.items()}, keep)
        )
        return [{"unpruned": [int(1.5 * whole)] * 20, "pruned": [int(0.5 * whole + pruned)] * 20}]

    monkeypatch.setattr(SpeedProbe, "_measured", clock)
    base = decoder_base(tmp_path / "base", "llama", layers=2)
    told = options(base, text, tmp_path / "run", target_speedup=(1.5,), shape="1x40", phase=phase, max_steps=12)
    run = train(told)
    measured = run.info.settled["speedup"]
    assert measured["asked"] == pytest.approx(1.5)
    assert measured["measured"] == pytest.approx(1.5, rel=0.03)
    assert 0.3 < run.info.removed < 0.7
    assert run.info.options["phase"] == phase
    with pytest.raises(InputError, match=r"target-speedup: 3x cannot be reached at 1x40.* 3\.00x as fast"):
        train(options(base, text, tmp_path / "other", target_speedup=(3.0,), shape="1x40", phase=phase))
