"""A run trains what it says and nothing else, ends at the share it was asked for, and leaves a whole run folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finegates_export.common.files import write_json
from finegates_export.errors import DivergedError, InputError, RunFolderError
from finegates_export.sources.assemble import assemble, base_of
from finegates_export.sources.base import find_base
from finegates_export.sources.run_folder import read_run
from finegates_trainer import TrainOptions, train
from finegates_trainer.running.reporter import Silent
from finegates_trainer.running.setup import prepare
from tests.tiny import tiny_base
from tests.trainer.conftest import write_rows

STEPS = 24


def options(base: Path, rows: Path, out: Path, **changes: Any) -> TrainOptions:
    settings: dict[str, Any] = {"max_steps": STEPS, "batch_size": 8, "max_length": 24, "save_steps": 5, "lora_rank": 2}
    return TrainOptions(base=str(base), data=str(rows), out=out, **{**settings, **changes})


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("layout", ["coupled", "matrix", "none"])
def test_a_run_ends_at_its_removed_share_with_heads_equally_wide(
    base: Path, rows: Path, tmp_path: Path, layout: str, rank: int
) -> None:
    run = train(options(base, rows, tmp_path / "run", layout=layout, lora_rank=rank, target_removed=0.4))
    wanted = 0.0 if layout == "none" else 0.4
    assert run.info.removed == pytest.approx(wanted, abs=0.01)
    assert (run.adapter is not None) == (rank > 0)
    assert run.info.trained_parameters["lora"] == 0 or rank > 0
    assert run.info.trained_parameters["head"] > 0
    assert set(run.info.labels) == {"bad", "medium", "nice"}
    assert not list((tmp_path).glob("*.training"))
    gated = assemble(run, base_of(run)).gated
    assert gated.gates.closed_share() == pytest.approx(run.info.removed)
    for (layer, kind), units in gated.gates.unit_products(gated.gates.values()).items():
        if kind != "ffn":
            widths = {int(width) for width in (units.view(4, -1) > 0).sum(1)} - {0}
            assert len(widths) <= 1, f"heads of layer {layer} differ in {kind}: {widths}"


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"2": "sad", "0": "so", "1": "fine"}, ("so", "fine", "sad")),
        ({"0": 2, "1": 0, "2": 1.0}, ("2", "0", "1")),
        ({"1": "so", "2": "sad", "3": "fine"}, ("fine", "sad", "so")),
        ({"0": "so", "1": "sad", "7": "fine"}, ("fine", "sad", "so")),
        ({"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, ("fine", "sad", "so")),
    ],
)
def test_labels_stand_as_the_base_has_them_where_it_names_each_of_its_outputs(
    base: Path, tmp_path: Path, named: dict[str, Any], expected: tuple[str, ...]
) -> None:
    shutil.copytree(base, tmp_path / "base")
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    write_json(tmp_path / "base" / "config.json", {**config, "id2label": named, "label2id": None})
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": f"a {one}", "label": one} for one in expected * 2])
    training = prepare(options(tmp_path / "base", rows, tmp_path / "run", eval_data=str(rows), layout="none"))
    assert training.labels == expected


@pytest.mark.parametrize("objective", ["share", "sensitivity", "target"])
@pytest.mark.parametrize("steps", [1, 3])
def test_gates_that_have_hardly_learned_are_settled_at_the_share_too(
    rows: Path, tmp_path: Path, steps: int, objective: str
) -> None:
    base = tiny_base(tmp_path / "base")
    for wanted in (0.2, 0.4):
        asked = options(base, rows, tmp_path / f"{wanted}", max_steps=steps, target_removed=wanted, objective=objective)
        assert train(asked).info.removed == pytest.approx(wanted, abs=0.01)


def test_the_base_stays_as_it_was_and_is_not_in_the_run_folder(base: Path, rows: Path, tmp_path: Path) -> None:
    before = find_base(str(base)).tensor_hashes()
    run = train(options(base, rows, tmp_path / "run"))
    assert find_base(str(base)).tensor_hashes() == before == run.info.base_tensors
    size = sum(file.stat().st_size for file in run.folder.rglob("*.safetensors"))
    saved = {name for file in run.folder.rglob("*.safetensors") for name in load_file(file)}
    assert not [name for name in saved if "embeddings" in name or name.endswith("query.weight")]
    assert size < (base / "model.safetensors").stat().st_size
    assert not [file for file in run.folder.rglob("*") if file.suffix in (".bin", ".pt", ".pkl", ".pth")]


def test_levels_are_each_settled_and_saved_in_the_same_form(base: Path, rows: Path, tmp_path: Path) -> None:
    run = train(options(base, rows, tmp_path / "run", levels=(0.2, 0.5), max_steps=40))
    levels = run.levels()
    assert [level.name for level in levels] == ["0.20", "0.50"]
    shares = [read_run(level).info.removed for level in levels]
    assert shares == [pytest.approx(0.2, abs=0.01), pytest.approx(0.5, abs=0.01)]
    assert run.info.removed == shares[-1]
    first, last = (read_run(level).gates for level in levels)
    closed_first = torch.cat([vector <= -0.5 for vector in first.values()])
    closed_last = torch.cat([vector <= -0.5 for vector in last.values()])
    assert bool((closed_last | ~closed_first).all()), "a gate that an earlier level closed was opened again"


def test_the_checkpoint_with_the_best_metric_is_kept(base: Path, rows: Path, tmp_path: Path) -> None:
    reporter = Silent()
    run = train(options(base, rows, tmp_path / "run", layout="none", max_steps=60, learning_rate=0.02), reporter)
    seen = [metrics["accuracy"] for _, metrics in reporter.evaluations]
    assert run.info.metrics["accuracy"] == max(seen)
    assert len(set(seen)) > 1
    loop_metric = _accuracy_of(run, rows)
    assert loop_metric == pytest.approx(max(seen))


def test_training_learns_the_task_under_gates(base: Path, rows: Path, tmp_path: Path) -> None:
    run = train(options(base, rows, tmp_path / "run", max_steps=150, learning_rate=0.01, lora_rank=4))
    assert run.info.metrics["accuracy"] > 0.7
    assert run.info.removed == pytest.approx(0.4, abs=0.01)


def test_biases_train_by_option_and_live_in_the_head_file(base: Path, rows: Path, tmp_path: Path) -> None:
    without = train(options(base, rows, tmp_path / "without"))
    trained = train(options(base, rows, tmp_path / "with", train_biases=True))
    name = "bert.encoder.layer.0.attention.self.query.bias"
    assert name not in without.head
    original = load_file(base / "model.safetensors")[name]
    assert not torch.equal(trained.head[name], original)
    assert trained.info.trained_parameters["biases"] > 0
    model = assemble(trained, base_of(trained)).gated.model.get_base_model()
    assert torch.equal(model.get_submodule(name.rpartition(".")[0]).base_layer.bias, trained.head[name])


def test_regression_keeps_floats_and_reports_correlations(base: Path, tmp_path: Path) -> None:
    run = train(options(base, _scores(tmp_path / "scores.jsonl"), tmp_path / "run", task="regression"))
    assert run.info.labels == ()
    assert set(run.info.metrics) == {"spearman", "pearson", "negative_rmse"}
    assert run.head["classifier.weight"].shape[0] == 1


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"learning_rate": 1e8}, r"the loss of step \d+ is (nan|inf) \(learning rate 1e\+08, precision float32\); .*"),
        ({"learning_rate": 1e30, "max_steps": 1}, "the model's output after step 1 is not finite .*"),
    ],
    ids=["loss", "last step"],
)
def test_a_run_that_diverges_ends_at_once_and_writes_nothing(
    base: Path, tmp_path: Path, task: str, changes: dict[str, Any], says: str
) -> None:
    rows = _scores(tmp_path / "scores.jsonl")
    with pytest.raises(DivergedError, match=f"{says}lower --learning-rate"):
        train(options(base, rows, tmp_path / "run", **{"task": task, "layout": "none", **changes}))
    assert not (tmp_path / "run").exists()


def test_an_adapter_can_be_the_start(base: Path, rows: Path, tmp_path: Path) -> None:
    first = train(options(base, rows, tmp_path / "first", layout="none"))
    assert first.adapter is not None
    second = train(options(base, rows, tmp_path / "second", adapter=first.adapter, max_steps=1, learning_rate=1e-9))
    before = load_file(first.adapter / "adapter_model.safetensors")
    after = load_file((second.adapter or Path()) / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert any(float(tensor.abs().max()) > 0 for name, tensor in before.items() if "lora_B" in name)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lora_rank": 16}, "lora-rank: 16 was requested, but the adapter .* has 2, .*omit --lora-rank"),
        ({"lora_rank": 0}, "lora-rank: 0 was requested, but the adapter .* has 2"),
        ({"lora_alpha": 3.0}, "lora-alpha: 3.0 was requested, but the adapter .* has 5.0"),
        ({"lora_dropout": 0.1}, "lora-dropout: 0.1 was requested"),
        ({"rslora": True}, "rslora: True was requested, but the adapter .* has False"),
        ({"dora": True}, "dora: True was requested"),
        ({"lora_rank": TrainOptions.lora_rank}, None),
        ({"lora_rank": 2, "lora_alpha": 5.0}, None),
    ],
)
def test_an_adapter_keeps_its_rank_and_alpha(
    base: Path, rows: Path, tmp_path: Path, changes: dict[str, Any], says: str | None
) -> None:
    first = train(options(base, rows, tmp_path / "first", layout="none", max_steps=1, lora_alpha=5.0))
    asked = options(base, rows, tmp_path / "second", adapter=first.folder, max_steps=1, **changes)
    if says is None:
        assert train(asked).info.steps == 1
        return
    with pytest.raises(InputError, match=says):
        train(asked)


def test_an_unpruned_run_can_be_the_start_with_its_head(base: Path, rows: Path, tmp_path: Path) -> None:
    first = train(options(base, rows, tmp_path / "first", layout="none"))
    assert first.adapter is not None
    still = {"max_steps": 1, "learning_rate": 1e-9, "objective": "penalty", "penalty_weight": 1e-9}
    second = train(options(base, rows, tmp_path / "second", adapter=first.folder, **still))
    alone = train(options(base, rows, tmp_path / "alone", adapter=first.adapter, **still))
    before, after = (load_file((run.adapter or Path()) / "adapter_model.safetensors") for run in (first, second))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert all(torch.allclose(first.head[name], second.head[name], atol=1e-6) for name in first.head)
    assert not all(torch.allclose(first.head[name], alone.head[name], atol=1e-3) for name in first.head)


@pytest.mark.parametrize(
    ("of_first", "of_second", "says"),
    [
        ({}, {}, "has gates, which would be lost"),
        ({"layout": "none", "lora_rank": 0}, {}, "without LoRA"),
        ({"layout": "none"}, {"task": "multi-label"}, "trained for classification"),
        ({"layout": "none", "train_biases": True}, {}, "neither trains nor keeps .*--train-biases"),
    ],
    ids=["gated", "without LoRA", "another task", "trained biases"],
)
def test_a_run_that_cannot_be_the_start_is_refused(
    base: Path, rows: Path, tmp_path: Path, of_first: dict[str, Any], of_second: dict[str, Any], says: str
) -> None:
    first = train(options(base, rows, tmp_path / "first", **of_first))
    with pytest.raises(InputError, match=says):
        train(options(base, rows, tmp_path / "second", adapter=first.folder, **of_second))


def test_trained_biases_are_a_start_where_they_go_on_training(base: Path, rows: Path, tmp_path: Path) -> None:
    first = train(options(base, rows, tmp_path / "first", layout="none", train_biases=True))
    still = {"max_steps": 1, "learning_rate": 1e-9, "objective": "penalty", "penalty_weight": 1e-9}
    second = train(options(base, rows, tmp_path / "second", adapter=first.folder, train_biases=True, **still))
    assert first.head.keys() == second.head.keys()
    assert all(torch.allclose(first.head[name], second.head[name], atol=1e-6) for name in first.head)


def test_a_start_on_another_base_is_refused(base: Path, rows: Path, tmp_path: Path) -> None:
    first = train(options(base, rows, tmp_path / "first", layout="none"))
    other = tiny_base(tmp_path / "other", seed=7)
    with pytest.raises(RunFolderError, match="not the base this run was trained on"):
        train(options(other, rows, tmp_path / "second", adapter=first.folder))


def test_a_fine_tuned_base_keeps_its_head_where_the_labels_fit(base: Path, rows: Path, tmp_path: Path) -> None:
    run = train(options(base, rows, tmp_path / "run", layout="none", max_steps=1, learning_rate=1e-9))
    original = load_file(base / "model.safetensors")["classifier.weight"]
    assert torch.allclose(run.head["classifier.weight"], original, atol=1e-6)
    fewer = tiny_base(tmp_path / "two", layers=1, labels=2)
    other = train(options(fewer, rows, tmp_path / "other", layout="none", max_steps=1, learning_rate=1e-9))
    assert other.head["classifier.weight"].shape[0] == 3


def test_class_weights_change_what_is_learned(base: Path, rows: Path, tmp_path: Path) -> None:
    plain = train(options(base, rows, tmp_path / "plain"))
    weighted = train(options(base, rows, tmp_path / "weighted", class_weights="5,1,1"))
    assert not torch.equal(plain.head["classifier.weight"], weighted.head["classifier.weight"])
    with pytest.raises(ValueError, match="class-weights: 2 given for 3 labels"):
        train(options(base, rows, tmp_path / "wrong", class_weights="5,1"))


def _scores(path: Path) -> Path:
    lines = [json.dumps({"text": f"{'very ' * (i % 5)}great film {i}", "score": (i % 5) / 2}) for i in range(60)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _accuracy_of(run: Any, rows: Path) -> float:
    """Accuracy of the saved state on the run's evaluation rows, counted anew."""
    samples = run.samples
    gated = assemble(run, base_of(run)).gated
    with torch.no_grad():
        logits = gated(**{name: tensor.long() for name, tensor in samples.items() if name != "labels"}).logits
    return float((logits.argmax(-1) == samples["labels"]).float().mean())
