"""The verb `train`: prepare, loop, write the run folder."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finegates_export.common.files import claimed, staged_folder
from finegates_export.common.stamp import command, versions
from finegates_export.common.tasks import task_of
from finegates_export.errors import RunFolderError
from finegates_export.gates.adapter import save_adapter
from finegates_export.sources.base import BaseModel
from finegates_export.sources.encoder_model import EncoderModel
from finegates_export.sources.run_folder import (
    ADAPTER_FOLDER,
    BASE_FOLDER,
    LEVELS_FOLDER,
    RUN_JSON,
    Run,
    RunInfo,
    read_run,
    write_run,
)
from finegates_trainer.learning.metrics import LESS_IS_BETTER
from finegates_trainer.options import TrainOptions
from finegates_trainer.processes import Processes, join_processes
from finegates_trainer.running.loop import Loop
from finegates_trainer.running.reporter import Reporter, Silent
from finegates_trainer.running.run_places import check_places, finished_run, working_folder
from finegates_trainer.running.setup import Training, prepare

IMAGE_SAMPLES = 64
"""Maximum images in a run folder: one of 224 x 224 takes 0.6 MB."""
GENERATION_SAMPLES = 2048
"""Maximum tokens for text generation in a run folder: the exporter compares logits, 0.4 GB at 49,152 per token."""


def train(options: TrainOptions, reporter: Reporter | None = None, base: BaseModel | None = None) -> Run:
    """Train gates, LoRA and head, and write the run folder.

    While it runs, checkpoints and finished levels lie in a folder beside `out` named `<out>.training`; it is removed
    once the run folder is complete. Of several processes (see `processes`), the main one evaluates, writes and reports.

    Args:
        options: the run.
        reporter: receives progress; silent by default.
        base: the base, if the caller has it already; a `SharedBase` is read once for many runs.

    Returns:
        The written run; with several levels, the last level's.

    Raises:
        InputError: base, data or adapter cannot be used, or fewer processes take part than requested.
        OutputError: the run folder cannot be written, or another process holds it.
        RunFolderError: `resume` with another run's checkpoint.
    """
    processes = join_processes()
    reporter = reporter if reporter and processes.is_main else Silent()
    out = Path(options.out)
    work = working_folder(out)
    with claimed(work, out) if processes.is_main else contextlib.nullcontext():
        return _train(options, reporter, processes, base, out, work)


def _train(
    options: TrainOptions, reporter: Reporter, processes: Processes, base: BaseModel | None, out: Path, work: Path
) -> Run:
    check_places(options, out, work)
    finished = finished_run(options, out, work) if options.resume else None
    if finished:
        return finished
    if options.threads:
        torch.set_num_threads(options.threads)
    training = prepare(options, base)
    hashes = training.base_tensors
    loop = Loop(training, work, reporter)
    if processes.is_main and not options.resume and work.exists():
        shutil.rmtree(work)
    resumed = options.resume and loop.resume()
    reporter.started(_facts(training, loop, resumed))

    def save_level(level: int, metrics: dict[str, float], steps: int) -> None:
        if processes.is_main:
            _write_level(training, loop, hashes, _level_folder(work, options, level), metrics, steps)

    if loop.step < loop.schedule.steps:
        loop.run(save_level)
    loop.accelerator.wait_for_everyone()
    if processes.is_main:
        _publish(work, out, options)
    loop.accelerator.wait_for_everyone()
    return read_run(out)


def _level_folder(work: Path, options: TrainOptions, level: int) -> Path:
    return work / LEVELS_FOLDER / options.level_names[level]


def _write_level(
    training: Training, loop: Loop, hashes: dict[str, str], folder: Path, metrics: dict[str, float], steps: int
) -> None:
    options = training.options
    with staged_folder(folder, overwrite=True) as stage:
        if training.parameters()["lora"]:
            save_adapter(training.gated.model, stage / ADAPTER_FOLDER)
        training.preprocessor.save_pretrained(stage)
        base_id, revision = training.base.id, training.base.revision
        if options.train_base:
            base_id, revision, hashes = _write_base(training, stage)
        info = RunInfo(
            base_id=base_id,
            base_revision=revision,
            base_tensors=hashes,
            family=training.family.name,
            layout=options.layout,
            task=options.task,
            labels=training.labels,
            max_length=training.max_length,
            removed=training.gated.gates.closed_share(),
            nominal=training.gated.gates.nominal_share(),
            metric=loop.metric,
            metrics=metrics,
            less_is_better=loop.metric in LESS_IS_BETTER,
            trained_parameters=_counts(training),
            data=_data_record(training),
            options=options.to_json(),
            command=command("finegates_trainer.train"),
            steps=steps,
            licence=_licence(training.base.folder),
            versions=versions(),
            pooling=training.pooling.mode if training.pooling else None,
            text=training.text.to_json() if training.text else None,
            normalize=training.pooling is not None and training.pooling.normalize,
            own_base=options.train_base,
            settled=loop.settled,
        )
        write_run(
            stage,
            info,
            gates=training.gated.gates.vectors() if len(training.gated.gates) else {},
            head=training.head_state(),
            samples=_samples(training),
            texts=training.texts if options.samples else (),
        )


def _write_base(training: Training, stage: Path) -> tuple[str, None, dict[str, str]]:
    """The trained model as its own base: its path in the run folder, and its hashes."""
    name = f"{BASE_FOLDER}/{Path(training.base.id).name}"
    model: Any = training.gated.model
    whole: Any = model.get_submodule(model.prefix) if isinstance(model, EncoderModel) else model
    whole.save_pretrained(stage / name, state_dict=training.family.stored_tensors(whole))
    training.preprocessor.save_pretrained(stage / name)
    return name, None, BaseModel(name, None, stage / name).tensor_hashes()


def _publish(work: Path, out: Path, options: TrainOptions) -> None:
    """Turn the finished levels into the run folder: the last one at the top, and all of them below it if several."""
    levels = [work / LEVELS_FOLDER / name for name in options.level_names]
    missing = [level.name for level in levels if not level.is_dir()]
    if missing:
        raise RunFolderError(
            f"{work} lacks the finished levels {', '.join(missing)}; --overwrite in place of --resume starts again"
        )
    with staged_folder(out, overwrite=options.overwrite, marks=(RUN_JSON,)) as stage:
        shutil.copytree(levels[-1], stage, dirs_exist_ok=True)
        if options.walks:
            for level in levels:
                shutil.copytree(level, stage / LEVELS_FOLDER / level.name)
    shutil.rmtree(work)


def _samples(training: Training) -> dict[str, Tensor] | None:
    rows = training.eval_rows
    count = min(training.options.samples, len(rows), _most_samples(training))
    if not count:
        return None
    inputs, labels = rows.collate(range(count))
    samples = {name: tensor if tensor.is_floating_point() else tensor.int() for name, tensor in inputs.items()}
    if rows.groups is not None:
        samples["groups"] = torch.tensor(rows.groups[:count])
    return {**samples, "labels": labels.float()}


def _most_samples(training: Training) -> int:
    task = task_of(training.options.task)
    if task.generates:
        return max(1, GENERATION_SAMPLES // max(training.eval_rows.lengths))
    return IMAGE_SAMPLES if task.images else len(training.eval_rows)


def _counts(training: Training) -> dict[str, int]:
    return {kind: sum(p.numel() for _, p in pairs) for kind, pairs in training.parameters().items()}


def _facts(training: Training, loop: Loop, resumed: bool) -> dict[str, str]:
    counts = _counts(training)
    trained = sum(counts.values())
    base = sum(p.numel() for name, p in training.gated.model.named_parameters() if "lora_" not in name)
    facts = {
        "base": f"{training.base.id} ({training.family.name}, {base / 1e6:.1f} M parameters)",
        "rows": _rows_told(training),
        **_length_told(training),
        **_teacher_told(training.options),
        "steps": f"{loop.schedule.steps}" + (f", going on after {loop.step}" if resumed else ""),
        "trained": f"{trained:,} parameters, {trained / base:.2%} of the base",
    }
    facts |= {f"  {kind}": f"{count:,} ({count / base:.3%})" for kind, count in counts.items() if count}
    return facts


def _rows_told(training: Training) -> str:
    rows = f"{len(training.train_rows)} to train on, {len(training.eval_rows)} to evaluate on"
    dropped, cut = _dropped(training), _cut(training)
    rows += f"; {dropped} dropped, since their answers were cut off" if dropped else ""
    return rows + (f"; {cut} cut, they are longer than {training.max_length} tokens" if cut else "")


def _length_told(training: Training) -> dict[str, str]:
    """Tokens per row, where the base takes fewer than the default."""
    if task_of(training.options.task).images or training.max_length == training.options.max_length:
        return {}
    return {"length": f"{training.max_length} tokens per row at most, as many as the base has positions"}


def _teacher_told(options: TrainOptions) -> dict[str, str]:
    """A recipe for distilling hidden states, without a teacher, learns worse than it promises."""
    if options.teacher:
        weights = f"logits {options.distill_logits:g}, hidden states {options.distill_hidden:g}"
        return {"teacher": f"{options.teacher} ({weights})"}
    return {"teacher": "none; distill-hidden has no effect without --teacher"} if options.distill_hidden else {}


def _dropped(training: Training) -> int:
    return training.train_rows.dropped + training.eval_rows.dropped


def _cut(training: Training) -> int:
    return training.train_rows.cut + training.eval_rows.cut


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
        "dropped_rows": _dropped(training),
        "cut_rows": _cut(training),
        "eval_sha256": training.data.evaluation.digest(),
    }


def _licence(folder: Path) -> str | None:
    """The `license:` line of a model card's front matter."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()[:40]
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("license:")), None)
