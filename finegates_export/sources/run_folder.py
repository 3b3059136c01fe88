"""The run folder: what training writes and exporting reads. Safetensors and JSON only, no base weights, no pickle.

run.json              what was trained, on which base (a hash per tensor), how well, by which command
gates.safetensors     `mu` of every gate vector (absent in the layout `none`)
adapter/              LoRA in peft's own format, if it was trained
head.safetensors      task head and trained biases
samples.safetensors   tokenized evaluation rows with labels, for the chain of checks (optional)
texts.json            a few of their texts with the tokens that training read, for the same (optional)
tokenizer files
base/NAME/            the whole model, if the base itself was trained (full fine-tuning)
levels/0.40/ ...      every settled level of a walk, in the same format
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.files import sha256_tree, write_json
from finegates_export.common.json_files import read_object
from finegates_export.common.options import Options, check
from finegates_export.common.stored_tensors import load_tensors
from finegates_export.common.tasks import TASKS, task_of
from finegates_export.common.tasks.pooling import POOLINGS, Pooling
from finegates_export.common.tensor_files import save_tensors
from finegates_export.common.text_inputs import TextInputs
from finegates_export.common.tokenizer_files import companions
from finegates_export.common.typed_fields import check_fields
from finegates_export.errors import InputError, RunFolderError
from finegates_export.gates.layout import LAYOUTS
from finegates_export.sources.listed_files import check_inside, check_listed, check_nothing_else
from finegates_export.sources.sample_texts import TEXTS_FILE, SampleText, read_texts, write_texts

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA_VERSION = 1
RUN_JSON = "run.json"
GATES_FILE = "gates.safetensors"
HEAD_FILE = "head.safetensors"
SAMPLES_FILE = "samples.safetensors"
ADAPTER_FOLDER = "adapter"
BASE_FOLDER = "base"
LEVELS_FOLDER = "levels"
MOST_TOKENS = 1 << 25
"""The longest text that a run may name, far beyond any model's."""


@dataclass(frozen=True)
class RunInfo(Options):
    """The content of `run.json`."""

    base_id: str
    base_revision: str | None
    base_tensors: dict[str, str]
    """SHA-256 of every base tensor by name."""
    family: str
    layout: str
    task: str
    labels: tuple[str, ...]
    max_length: int
    removed: float
    """Removed share of the layers' linear weights at which the gates were settled, padding included."""
    metric: str
    metrics: dict[str, float]
    """Every metric computed on the evaluation rows, by name."""
    trained_parameters: dict[str, int]
    """Trained parameters by kind: gates, lora, head, biases."""
    data: dict[str, object]
    """The source of the rows, for `finegates-bench` to read the evaluation rows again."""
    options: dict[str, object]
    """The training options, all of them."""
    command: str
    steps: int
    nominal: float | None = None
    """Share of the weights behind a closed gate, matrix by matrix: the nominal removed share."""
    licence: str | None = None
    """The base's licence, as its model card states it."""
    pooling: str | None = None
    """How embeddings pool the last hidden state, mean or cls; None for other tasks."""
    text: dict[str, object] | None = None
    """How training read texts, see `TextInputs`; None for images, and in runs from before this was kept."""
    normalize: bool = False
    """Whether embeddings are scaled to length 1."""
    own_base: bool = False
    """Whether the base itself was trained: it lies in the run folder, and `base_id` is its path there."""
    less_is_better: bool = False
    """Whether lower values of `metric` are better, as for perplexity."""
    settled: dict[str, object] = field(default_factory=dict)
    """Measurements at settling: for a speed-up, the requested and the reached one."""
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of every other file in the folder, except levels."""
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        check(self.layout in LAYOUTS, "layout", f"{self.layout!r} is not one of {', '.join(LAYOUTS)}")
        check(self.task in TASKS, "task", f"{self.task!r} is not one of {', '.join(TASKS)}")
        known = self.pooling is None or self.pooling in POOLINGS
        check(known, "pooling", f"{self.pooling!r} is not one of {', '.join(POOLINGS)}")
        fits = 1 < self.max_length <= MOST_TOKENS
        check(fits, "max_length", f"must be greater than 1 and at most {MOST_TOKENS:,}, got {self.max_length}")
        check(0 <= self.removed <= 1, "removed", f"must lie in [0, 1], got {self.removed}")
        if self.text is not None:
            TextInputs.from_json(dict(self.text))
        nominal = self.removed if self.nominal is None else self.nominal
        check(0 <= nominal <= 1, "nominal", f"must lie in [0, 1], got {nominal}")

    @property
    def base_name(self) -> str:
        """The base's name: its hub id, or its folder's name."""
        return self.base_id if self.base_revision else Path(self.base_id).name

    def pooled_by(self) -> Pooling | None:
        """The pooling of embeddings; None for other tasks."""
        return None if self.pooling is None else Pooling(self.pooling, self.normalize)

    def to_json(self) -> dict[str, object]:
        """All fields as JSON types."""
        values: dict[str, object] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values


@dataclass(frozen=True)
class Run:
    """A run folder, read and checked."""

    folder: Path
    info: RunInfo
    gates: dict[str, Tensor]
    head: dict[str, Tensor]
    samples: dict[str, Tensor] | None
    texts: tuple[SampleText, ...] = ()

    @property
    def adapter(self) -> Path | None:
        """The adapter's folder, if the run trained one."""
        listed = any(name.startswith(f"{ADAPTER_FOLDER}/") for name in self.info.files)
        return self.folder / ADAPTER_FOLDER if listed else None

    def companions(self) -> list[Path]:
        """The listed files that belong with the model: tokenizer or image processor."""
        return companions(self.folder, self.info.files)

    def levels(self) -> list[Path]:
        """The run's settled levels, ascending; the run itself if it has none."""
        place = self.folder / LEVELS_FOLDER
        inside = place.iterdir() if place.is_dir() else ()
        # File managers and notebooks leave hidden files and folders.
        folders = [path for path in inside if path.is_dir() and not path.name.startswith(".")]
        return sorted(folders, key=_level) or [self.folder]


def read_run(folder: Path) -> Run:
    """Read a run folder whole and check it against its own record.

    Raises:
        InputError: an embedding that does not say how to pool tokens.
        RunFolderError: missing, empty, damaged, or of a newer schema.
    """
    info = read_info(folder)
    if task_of(info.task).pools and info.pooling is None:
        raise InputError(
            f"{folder} is an embedding, but does not say how to pool its tokens; train again with --pooling "
            f"{' or --pooling '.join(POOLINGS)}"
        )
    check_listed(folder, folder / RUN_JSON, info.files)
    for place in (ADAPTER_FOLDER, BASE_FOLDER):
        check_nothing_else(folder, place, info.files)
    tensors = {
        name: load_tensors(folder / name, RunFolderError, "restore the run folder or train again")
        for name in (GATES_FILE, HEAD_FILE, SAMPLES_FILE)
        if name in info.files
    }
    samples, texts = tensors.get(SAMPLES_FILE) or None, read_texts(folder) if TEXTS_FILE in info.files else ()
    return Run(folder, info, tensors.get(GATES_FILE, {}), tensors.get(HEAD_FILE, {}), samples, texts)


def _level(folder: Path) -> float:
    try:
        return float(folder.name.removesuffix("x"))
    except ValueError as error:
        raise RunFolderError(f"{folder} is no level of a run, whose name is a number; move it elsewhere") from error


def write_run(
    folder: Path,
    info: RunInfo,
    *,
    gates: dict[str, Tensor],
    head: dict[str, Tensor],
    samples: dict[str, Tensor] | None,
    texts: Sequence[SampleText] = (),
) -> None:
    """Write a run's own files into a folder that already holds its adapter and tokenizer files, `run.json` last."""
    folder.mkdir(parents=True, exist_ok=True)
    if gates:
        save_tensors(gates, folder / GATES_FILE)
    save_tensors(head, folder / HEAD_FILE)
    if samples:
        save_tensors(samples, folder / SAMPLES_FILE)
    write_texts(texts, folder)
    hashes = {name: digest for name, digest in sha256_tree(folder).items() if not name.startswith(f"{LEVELS_FOLDER}/")}
    hashes.pop(RUN_JSON, None)
    write_json(folder / RUN_JSON, dataclasses.replace(info, files=hashes).to_json())


def places_of_run(folder: Path) -> tuple[Path, ...]:
    """What a run leads to on disk: its folder, and the base and the rows that it names; the folder alone if damaged."""
    try:
        info = read_info(folder)
    except RunFolderError:  # told when it is read
        return (folder,)
    rows = [str(info.data[name]) for name in ("data", "eval_data") if info.data.get(name)]
    return (folder, *(Path(place).expanduser() for place in (info.base_id, *rows)))


def read_info(folder: Path) -> RunInfo:
    """The content of a run folder's `run.json`; its other files are not checked.

    Raises:
        RunFolderError: missing, damaged, or of a newer schema.
    """
    path = folder / RUN_JSON
    if not folder.is_dir():
        raise RunFolderError(f"run folder {folder} does not exist; finegates-train --out {folder} makes one")
    if not path.is_file():
        raise RunFolderError(f"{folder} holds no {RUN_JSON}: it is empty, unfinished, or not a run folder")
    values = read_object(path, RunFolderError, "restore the run folder or train again")
    version = values.get("schema_version")
    if type(version) is not int:
        raise RunFolderError(
            f"{path} is damaged: schema_version is {version!r:.80}, not a number; restore the run folder or train again"
        )
    if version != SCHEMA_VERSION:
        raise RunFolderError(
            f"{path} has schema version {version}, but this version reads {SCHEMA_VERSION}; "
            + ("update finegates-export" if version > SCHEMA_VERSION else "train again with this version")
        )
    try:
        check_fields(RunInfo, values)
        info = RunInfo.from_json(values)
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"{path} is damaged: {error}") from error
    if not info.own_base:
        return info
    check_inside(path, info.base_id)
    return dataclasses.replace(info, base_id=str(folder / info.base_id))
