"""The verb `train`: prepare, loop, write the run folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finegates_export.errors import RunFolderError
from finegates_export.files import check_destination, staged_folder
from finegates_export.gates.adapter import save_adapter
from finegates_export.gates.run_folder import ADAPTER_FOLDER, LEVELS_FOLDER, Run, RunInfo, read_run, write_run
from finegates_export.stamp import command, versions
from finegates_export.tasks import task_of
from finegates_trainer.loop import Loop
from finegates_trainer.options import TrainOptions
from finegates_trainer.reporter import Reporter, Silent
from finegates_trainer.setup import Training, prepare

IMAGE_SAMPLES = 64
"""Images that a run folder keeps at most: one of 224 x 224 takes 0.6 MB."""


def train(options: TrainOptions, reporter: Reporter | None = None) -> Run:
    """Train gates, LoRA and head as told, and write the run folder.

    While it runs, checkpoints and finished levels lie in a folder beside `out` named `<out>.training`; it is removed
    when the run folder stands.

    Args:
        options: the run.
        reporter: is told what happens; nobody by default.

    Returns:
        The run that was written; the last level's where several were walked.

    Raises:
        InputError: base, data or adapter cannot be used.
        OutputError: the run folder cannot be written.
        RunFolderError: `resume` with another run's checkpoint.
    """
    reporter = reporter or Silent()
    out = Path(options.out)
    check_destination(out, overwrite=options.overwrite or options.resume)
    if options.resume and out.exists():
        return read_run(out)
    if options.threads:
        torch.set_num_threads(options.threads)
    training = prepare(options)
    work = out.absolute().parent / f"{out.name}.training"
    if not options.resume and work.exists():
        shutil.rmtree(work)
    loop = Loop(training, work, reporter)
    resumed = options.resume and loop.resume()
    reporter.started(_facts(training, loop, resumed))

    hashes = training.base.tensor_hashes()

    def save_level(level: int, metrics: dict[str, float], steps: int) -> None:
        if loop.accelerator.is_main_process:
            _write_level(training, loop, hashes, _level_folder(work, options, level), metrics, steps)

    if loop.step < loop.schedule.steps:
        loop.run(save_level)
    loop.accelerator.wait_for_everyone()
    if loop.accelerator.is_main_process:
        _publish(work, out, options)
    loop.accelerator.wait_for_everyone()
    return read_run(out)


def _level_folder(work: Path, options: TrainOptions, level: int) -> Path:
    share = options.removed_levels[level] if options.removed_levels else 0.0
    return work / LEVELS_FOLDER / f"{share:.2f}"


def _write_level(
    training: Training, loop: Loop, hashes: dict[str, str], folder: Path, metrics: dict[str, float], steps: int
) -> None:
    options = training.options
    with staged_folder(folder, overwrite=True) as stage:
        if training.parameters()["lora"]:
            save_adapter(training.gated.model, stage / ADAPTER_FOLDER)
        training.preprocessor.save_pretrained(stage)
        info = RunInfo(
            base_id=training.base.id,
            base_revision=training.base.revision,
            base_tensors=hashes,
            family=training.family.name,
            layout=options.layout,
            task=options.task,
            labels=training.labels,
            max_length=training.max_length,
            removed=training.gated.gates.closed_share(),
            metric=loop.metric,
            metrics=metrics,
            trained_parameters=_counts(training),
            data=_data_record(training),
            options=options.to_json(),
            command=command("finegates_trainer.train"),
            steps=steps,
            licence=_licence(training.base.folder),
            versions=versions(),
            pooling=training.pooling.mode if training.pooling else None,
            normalize=training.pooling is not None and training.pooling.normalize,
        )
        write_run(
            stage,
            info,
            gates=training.gated.gates.vectors() if len(training.gated.gates) else {},
            head=training.head_state(),
            samples=_samples(training),
        )


def _publish(work: Path, out: Path, options: TrainOptions) -> None:
    """Swap the finished levels in as the run folder: the last one on top, all of them below it if several."""
    levels = sorted((work / LEVELS_FOLDER).glob("[0-9]*"), key=lambda path: float(path.name))
    expected = max(1, len(options.removed_levels))
    if len(levels) != expected:
        raise RunFolderError(f"{work} holds {len(levels)} finished levels of {expected}; train again without --resume")
    with staged_folder(out, overwrite=options.overwrite) as stage:
        shutil.copytree(levels[-1], stage, dirs_exist_ok=True)
        if options.levels:
            for level in levels:
                shutil.copytree(level, stage / LEVELS_FOLDER / level.name)
    shutil.rmtree(work)


def _samples(training: Training) -> dict[str, Tensor] | None:
    rows = training.eval_rows
    most = IMAGE_SAMPLES if task_of(training.options.task).images else len(rows)
    count = min(training.options.samples, len(rows), most)
    if not count:
        return None
    inputs, labels = rows.collate(range(count))
    samples = {name: tensor if tensor.is_floating_point() else tensor.int() for name, tensor in inputs.items()}
    return {**samples, "labels": labels.float()}


def _counts(training: Training) -> dict[str, int]:
    return {kind: sum(p.numel() for _, p in pairs) for kind, pairs in training.parameters().items()}


def _facts(training: Training, loop: Loop, resumed: bool) -> dict[str, str]:
    counts = _counts(training)
    trained = sum(counts.values())
    base = sum(p.numel() for name, p in training.gated.model.named_parameters() if "lora_" not in name)
    facts = {
        "base": f"{training.base.id} ({training.family.name}, {base / 1e6:.1f} M parameters)",
        "rows": _rows_told(training),
        "steps": f"{loop.schedule.steps}" + (f", going on after {loop.step}" if resumed else ""),
        "trained": f"{trained:,} parameters, {trained / base:.2%} of the base",
    }
    facts |= {f"  {kind}": f"{count:,} ({count / base:.3%})" for kind, count in counts.items() if count}
    return facts


def _rows_told(training: Training) -> str:
    rows = f"{len(training.train_rows)} to train on, {len(training.eval_rows)} to evaluate on"
    dropped = training.train_rows.dropped + training.eval_rows.dropped
    return rows + (f"; {dropped} dropped, their answers were cut off" if dropped else "")


def _data_record(training: Training) -> dict[str, Any]:
    options = training.options
    names = ("data", "eval_data", "text_column", "pair_column", "label_column")
    record = {name: getattr(options, name) for name in names}
    for name in ("data", "eval_data"):
        if record[name] and Path(record[name]).exists():
            record[name] = str(Path(record[name]).absolute())
    return {
        **record,
        "train_rows": len(training.train_rows),
        "eval_rows": len(training.eval_rows),
        "dropped_rows": training.train_rows.dropped + training.eval_rows.dropped,
        "eval_sha256": training.data.evaluation.digest(),
    }


def _licence(folder: Path) -> str | None:
    """The `license:` line of a model card's front matter."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()[:40]
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("license:")), None)
