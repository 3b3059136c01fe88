"""The fresh process that times epochs of whole models: onnxruntime and numpy, nothing else.

python benchmarks/epoch_worker.py SPEC.json RESULT.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finegates_export.costs.timing.sessions import resting_session
from finegates_export.costs.timing.timer import Budget, time_interleaved


@dataclass(frozen=True)
class EpochSpec:
    """What one process times."""

    graphs: dict[str, str]
    """ONNX files by model."""
    rows: str
    """A file of numpy's: `ids`, all rows behind each other, and their `lengths`, ascending."""
    batch_size: int
    threads: int
    budget: Budget

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> EpochSpec:
        """Rebuild from `to_json`."""
        return cls(**{**values, "budget": Budget(**values["budget"])})


def main() -> None:
    """Read the spec named by the first argument, write nanoseconds of an epoch by model and round to the second."""
    spec_file, result_file = map(Path, sys.argv[1:3])
    spec = EpochSpec.from_json(json.loads(spec_file.read_text(encoding="utf-8")))
    batches = read_batches(Path(spec.rows), spec.batch_size)
    calls = {name: epoch(resting_session(path, spec.threads), batches) for name, path in spec.graphs.items()}
    result_file.write_text(json.dumps(time_interleaved(calls, spec.budget)), encoding="utf-8")


def read_batches(rows: Path, batch_size: int) -> list[dict[str, Any]]:
    """Inputs by name, each batch padded to its longest row; arrays of shape (rows, tokens)."""
    with np.load(rows) as file:
        ids, lengths = file["ids"], file["lengths"]
    texts = np.split(ids, np.cumsum(lengths)[:-1])
    batches = []
    for start in range(0, len(texts), batch_size):
        some = texts[start : start + batch_size]
        ids_BS = np.zeros((len(some), len(some[-1])), np.int64)
        mask_BS = np.zeros_like(ids_BS)
        for row, text in enumerate(some):
            ids_BS[row, : len(text)], mask_BS[row, : len(text)] = text, 1
        batches.append({"input_ids": ids_BS, "attention_mask": mask_BS, "token_type_ids": np.zeros_like(ids_BS)})
    return batches


def epoch(session: Any, batches: list[dict[str, Any]]) -> Callable[[], None]:
    """All batches once, one after the other."""
    names = [value.name for value in session.get_inputs()]
    feeds = [{name: batch[name] for name in names} for batch in batches]

    def run() -> None:
        for feed in feeds:
            session.run(None, feed)

    return run


if __name__ == "__main__":
    main()
