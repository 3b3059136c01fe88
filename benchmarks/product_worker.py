"""The fresh process that times gated products of one size, in onnxruntime or in torch.

    python benchmarks/product_worker.py SPEC.json RESULT.json

Four matrices, each with weights of its own, are multiplied in a call: in a model a matrix comes from memory. Which dims
are open is drawn for each of them at random.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finegates_export.costs.timing.timer import Budget, time_interleaved

COPIES = 4
FULL = "full"
SELECTED, CUT, GATHERED = "selected", "cut", "gathered"
WAYS = (SELECTED, CUT, GATHERED)
"""Input and matrix are selected in every call; the matrix is cut once and the input comes cut; the matrix is cut once
and the input is gathered in every call."""

Call = Callable[[], Any]


@dataclass(frozen=True)
class ProductSpec:
    """What one process times."""

    runtime: str
    """`onnxruntime` or `torch`."""
    tokens: int
    inputs: int
    outputs: int
    open_dims: tuple[int, ...]
    """Numbers of input dims whose gate is open."""
    threads: int
    budget: Budget
    graphs: dict[str, str]
    """onnxruntime: files by call."""

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ProductSpec:
        """Rebuild from `to_json`."""
        budget = Budget(**values["budget"])
        return cls(**{**values, "budget": budget, "open_dims": tuple(values["open_dims"])})


def main() -> None:
    """Read the spec named by the first argument, write nanoseconds by call and round to the second."""
    spec_file, result_file = map(Path, sys.argv[1:3])
    spec = ProductSpec.from_json(json.loads(spec_file.read_text(encoding="utf-8")))
    calls = onnx_calls(spec) if spec.runtime == "onnxruntime" else torch_calls(spec)
    result_file.write_text(json.dumps(time_interleaved(calls, spec.budget)), encoding="utf-8")


def call_name(way: str, open_dims: int) -> str:
    """How a call is named."""
    return f"{way} {open_dims}"


def open_units(width: int, count: int, copy: int) -> Any:
    """The dims that are open in front of one matrix, ascending; int64, shape (count,)."""
    return np.sort(np.random.default_rng((count, copy)).permutation(width)[:count]).astype(np.int64)


def onnx_calls(spec: ProductSpec) -> dict[str, Call]:
    """A session a call, all open at once."""
    from finegates_export.costs.timing.sessions import resting_session

    generator = np.random.default_rng(0)

    def call(name: str, path: str) -> Call:
        session = resting_session(path, spec.threads)
        feed = {}
        for value in session.get_inputs():
            if value.name == "x":
                feed["x"] = generator.standard_normal((1, spec.tokens, value.shape[-1]), np.float32)
            else:
                count, copy = int(name.split()[1]), int(value.name.removeprefix("open"))
                feed[value.name] = open_units(spec.inputs, count, copy)
        return lambda: session.run(None, feed)

    return {name: call(name, path) for name, path in spec.graphs.items()}


def torch_calls(spec: ProductSpec) -> dict[str, Call]:
    """The same calls as tensors; results are thrown away."""
    import torch

    torch.set_num_threads(spec.threads)
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Any:
        return torch.randn(*size, generator=generator)

    def full() -> Call:
        matrices = [draw(spec.inputs, spec.outputs) for _ in range(COPIES)]
        return lambda: [x @ matrix for matrix in matrices]

    def selected(units: list[Any]) -> Call:
        pairs = [(draw(spec.inputs, spec.outputs), chosen) for chosen in units]
        return lambda: [x.index_select(1, chosen) @ matrix.index_select(0, chosen) for matrix, chosen in pairs]

    def cut(units: list[Any]) -> Call:
        narrow, matrices = draw(spec.tokens, len(units[0])), [draw(len(chosen), spec.outputs) for chosen in units]
        return lambda: [narrow @ matrix for matrix in matrices]

    def gathered(units: list[Any]) -> Call:
        pairs = [(draw(len(chosen), spec.outputs), chosen) for chosen in units]
        return lambda: [x.index_select(1, chosen) @ matrix for matrix, chosen in pairs]

    x = draw(spec.tokens, spec.inputs)
    made: dict[str, Callable[[list[Any]], Call]] = {SELECTED: selected, CUT: cut, GATHERED: gathered}
    calls = {FULL: full()}
    for count in spec.open_dims:
        units = [torch.from_numpy(open_units(spec.inputs, count, copy)) for copy in range(COPIES)]
        calls |= {call_name(way, count): make(units) for way, make in made.items()}
    return calls


if __name__ == "__main__":
    main()
