"""The paper's formula as it stands: open columns are selected when the model runs, and nothing else gets smaller.

    y = w_r * ( W (w_c * x) + b )

Where a gate of w_c is closed, the weight's column is gone and the input is indexed by what is open; rows stay, closed
ones as zeros. Timed in torch, and through torch.onnx in onnxruntime.

Shapes: D features in, C of them open.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from contract import CHECKED_ROWS, Arguments, Model, all_logits, check_close, compared, read_rows, run_script
from onnx_files import exported
from torch import Tensor, nn
from torch.nn import functional
from torch_model import fast_model, layer_weights, parameter_count, torch_forward

from finegates_export.families.structure import LinearSide
from finegates_export.sources.assemble import assemble, base_of
from finegates_export.sources.run_folder import read_run


class SelectedLinear(nn.Module):
    """A linear whose input is indexed by the open column gates.

    Args:
        linear: the dense linear.
        rows: evaluation gates of its rows; None where there are none.
        columns: evaluation gates of its columns, shape (D,); None where there are none.
    """

    kept: Tensor

    def __init__(self, linear: nn.Linear, rows: Tensor | None, columns: Tensor | None) -> None:
        super().__init__()
        columns = torch.ones(linear.in_features) if columns is None else columns
        rows = torch.ones(linear.out_features) if rows is None else rows
        kept_C = columns.nonzero()[:, 0]
        self.register_buffer("kept", kept_C)
        self.weight = nn.Parameter((rows[:, None] * linear.weight * columns[None, :])[:, kept_C], requires_grad=False)
        self.bias = None if linear.bias is None else nn.Parameter(rows * linear.bias, requires_grad=False)
        self.selects = len(kept_C) < linear.in_features

    def forward(self, x_BSD: Tensor) -> Tensor:
        """What the gated linear computes."""
        x_BSC = x_BSD.index_select(-1, self.kept) if self.selects else x_BSD
        return functional.linear(x_BSC, self.weight, self.bias)


def build(level: Path, base: Path) -> Any:
    """A run with gates as a torch model whose linears select their inputs."""
    run = read_run(level)
    assembled = assemble(run, base_of(run, str(base)))
    gated = assembled.gated
    with torch.no_grad():
        scales = gated.gates.scales(gated.gates.values())
        wrapped: Any = gated.detach_gates()
        model: Any = wrapped.merge_and_unload(safe_merge=True) if hasattr(wrapped, "merge_and_unload") else wrapped
        for path in assembled.structure.linears():
            rows, columns = (scales.get(LinearSide(path, axis)) for axis in ("row", "column"))
            model.set_submodule(path, SelectedLinear(model.get_submodule(path), rows, columns))
    return model.requires_grad_(False).eval()


def make(arguments: Arguments) -> list[Model]:
    """In torch, beside the unpruned model there; and through torch.onnx, float32 and int8."""
    run = read_run(arguments.level)
    gated = assemble(run, base_of(run, str(arguments.base))).gated
    inputs, _ = read_rows(arguments.rows, "eval")
    expected_BC = all_logits(torch_forward(gated), inputs, CHECKED_ROWS)
    unpruned, model = fast_model(arguments.run, arguments.base), build(arguments.level, arguments.base)
    removed = 1.0 - layer_weights(model) / layer_weights(unpruned)
    title = f"{removed:.0%} removed, columns selected"
    models = []
    for id_, told, one, made_by, build_from in (
        ("torch-unpruned", "unpruned, torch", unpruned, "torch_model:fast_model", "run"),
        ("authors-torch", f"{title}, torch", model, "authors_peer:build", "level"),
    ):
        logits_BC = all_logits(torch_forward(one), inputs)
        np.save(arguments.out / f"{id_}.npy", logits_BC)
        own = logits_BC[:CHECKED_ROWS] if one is unpruned else expected_BC
        agreed = compared(own, logits_BC[: len(own)])
        check_close(id_, agreed)
        models.append(
            Model(
                id=id_, title=told, runtime="torch", parameters=parameter_count(one), build=made_by,
                build_from=build_from, removed=0.0 if one is unpruned else removed, logits=f"{id_}.npy", **agreed,
            )
        )  # fmt: skip
    return [*models, *exported(arguments, model, "authors", title, removed)]


if __name__ == "__main__":
    run_script(__doc__, ("torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime"), make)
