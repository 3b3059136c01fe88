"""Two processes train what one trains: the same batches and gates, gradients of the mean over all rows or labels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from finegates_export.common.tasks import NO_LABEL, TASKS, LossSettings
from finegates_export.errors import InputError
from finegates_trainer import TrainOptions, train
from finegates_trainer.data.batches import EpochBatches
from finegates_trainer.learning.losses import TaskLoss
from finegates_trainer.learning.next_tokens import NextTokens
from finegates_trainer.processes import Processes, check_launch
from tests.tiers import tiered
from tests.tiny import tiny_base

ROWS, TOKENS, LABELS, DIMS = 7, 5, 3, 4
"""Of a batch that two processes cannot halve."""
SETTINGS = {"max_steps": 10, "max_length": 24, "lora_rank": 2, "eval_steps": 4}


@pytest.fixture(scope="module")
def calm_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base without dropout, which every process draws for itself."""
    base = tiny_base(tmp_path_factory.mktemp("calm") / "base", layers=1)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return base


def trained(run: Path) -> dict[str, Tensor]:
    files = ("gates.safetensors", "head.safetensors", "adapter/adapter_model.safetensors")
    return {f"{file}:{name}": tensor for file in files for name, tensor in load_file(run / file).items()}


def distance(one: Path, other: Path, free: tuple[str, ...]) -> float:
    """The largest absolute difference of a trained parameter."""
    mine, theirs = trained(one), trained(other)
    assert mine.keys() == theirs.keys()
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine if name not in free)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("task", "free", "rounding"),
    tiered(
        [
            ({"task": "token-classification"}, (), 1e-6),
            # A margin does not change with the head's bias, whose gradient is rounding error; scores move with it.
            ({"task": "reranking", "ranking_loss": "margin"}, ("head.safetensors:classifier.bias",), 1e-5),
        ],
        default=1,
    ),
    ids=["token-classification", "margin"],
)
def test_two_processes_train_what_one_process_trains(
    calm_base: Path,
    task_rows: dict[str, Path],
    tmp_path: Path,
    task: dict[str, str],
    free: tuple[str, ...],
    rounding: float,
) -> None:
    common = {"base": str(calm_base), "data": str(task_rows[task["task"]]), **task, **SETTINGS}
    flags = {**common, "out": tmp_path / "two", "batch_size": ROWS}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    command += [str(Path(sys.executable).parent / "finegates-train")]
    command += [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote ") == 1, "only one process writes and tells"
    one = train(TrainOptions(**common, out=tmp_path / "one", batch_size=ROWS))
    other = train(TrainOptions(**common, out=tmp_path / "other", batch_size=ROWS + 1))
    assert distance(tmp_path / "two", one.folder, free) <= 1e-5
    assert distance(other.folder, one.folder, free) > 1e-3
    recorded = json.loads((tmp_path / "two" / "run.json").read_text(encoding="utf-8"))
    assert recorded["metrics"] == pytest.approx(one.info.metrics, rel=rounding)
    assert recorded["steps"] == 10
    assert not (tmp_path / "two.training").exists()


def a_batch(task: str) -> tuple[dict[str, Tensor], Tensor]:
    """Outputs of a model by row, and labels; rows have unequally many labelled tokens."""
    generator = torch.Generator().manual_seed(1)
    shapes = {
        "token-classification": (TOKENS, LABELS),
        "text-generation": (TOKENS, DIMS),
        "question-answering": (TOKENS,),
        "regression": (1,),
        "reranking": (1,),
        "embedding": (2 * DIMS,),
    }
    draw = torch.randn(2, ROWS, *shapes.get(task, (LABELS,)), generator=generator, dtype=torch.float64)
    outputs = (
        dict(zip(("start_logits", "end_logits"), draw, strict=True))
        if task == "question-answering"
        else {"logits": draw[0]}
    )
    known = torch.randint(LABELS, (ROWS, TOKENS), generator=generator)
    known[torch.arange(TOKENS) > torch.arange(ROWS)[:, None]] = NO_LABEL
    labels = {
        "classification": known[:, 0], "image-classification": known[:, 0],
        "multi-label": (known[:, :LABELS] > 0).double(), "regression": torch.linspace(-1, 1, ROWS),
        "token-classification": known, "text-generation": known, "question-answering": known[:, :2].clamp(min=0),
        "embedding": torch.linspace(0, 1, ROWS), "reranking": torch.linspace(0, 1, ROWS).double(),
    }[task]  # fmt: skip
    return outputs, labels


def gradients(task: str, average: Any, part: list[int]) -> Tensor:
    """Of the loss over some rows of the batch, for the outputs of all of them."""
    outputs, labels = a_batch(task)
    leaves = {name: tensor.requires_grad_(True) for name, tensor in outputs.items()}
    chosen = {name: leaf[part] for name, leaf in leaves.items()}
    if task == "embedding":
        chosen = {"sentence_embedding": chosen["logits"].reshape(-1, DIMS)}
    predicted: Any = SimpleNamespace(**chosen)
    if task == "text-generation":
        head = nn.Linear(DIMS, LABELS, bias=False).double()
        nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(4))
        predicted = NextTokens(chosen["logits"], head.requires_grad_(False))
    weights = torch.tensor([1.0, 5.0, 0.5]) if TASKS[task].one_label else None
    TaskLoss(task, LossSettings(weights), average)(predicted, labels[part]).backward()
    return torch.cat([leaf.grad.flatten() for leaf in leaves.values() if leaf.grad is not None])


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if task.metrics])
def test_the_average_of_the_parts_gradients_is_the_gradient_of_the_whole_batchs_mean(task: str) -> None:
    rows = list(range(ROWS))
    parts = [Processes(2, index).part(rows) for index in range(2)]
    counts: list[Tensor] = []
    for part in parts:
        gradients(task, lambda count: counts.append(count) or count, part)
    both = sum(counts) / 2
    shared = sum(gradients(task, lambda _count: both, part) for part in parts) / 2
    whole = gradients(task, Processes().average, rows)
    naive = sum(gradients(task, Processes().average, part) for part in parts) / 2
    torch.testing.assert_close(shared, whole, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(naive, whole, atol=1e-4), "a mean of means would pass"


def test_the_parts_of_every_batch_are_the_batch_in_one_process() -> None:
    lengths = [1 + row % 9 for row in range(50)]
    whole = list(EpochBatches(lengths, 7, seed=3))
    parts = [list(EpochBatches(lengths, 7, 3, Processes(2, index))) for index in range(2)]
    assert [sorted(one + other) for one, other in zip(*parts, strict=True) if one != other] == [
        sorted(batch) for batch in whole if len(batch) > 1
    ]
    assert [len(batch) for batch in whole].count(1) == 1
    assert [one for one, other in zip(*parts, strict=True) if one == other] == [b for b in whole if len(b) == 1]


def test_batches_that_were_seen_are_left_out_when_a_run_goes_on() -> None:
    batches = EpochBatches([1] * 30, 7, seed=3)
    whole = list(batches)
    batches.done = 2
    assert list(batches) == whole[2:]


@pytest.mark.parametrize(
    ("environment", "asked"),
    [({"WORLD_SIZE": "2"}, "2"), ({"MASTER_ADDR": "127.0.0.1", "ACCELERATE_MIXED_PRECISION": "no"}, "several")],
    ids=["torchrun", "accelerate"],
)
def test_one_process_where_several_were_asked_for_is_refused(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], asked: str
) -> None:
    check_launch(1)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"{asked} processes were requested, but 1 would train"):
        train(TrainOptions(base=str(base), data=str(rows), out=tmp_path / "run"))
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("WORLD_SIZE", "1")
    check_launch(1)
