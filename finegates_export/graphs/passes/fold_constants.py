"""Constant folding without a size limit."""

from __future__ import annotations

import onnx_ir
from onnx_ir.passes import PassResult

from finegates_export.graphs.passes.graph_pass import GraphPass

FOLD_LIMIT = 1 << 30
"""In elements: more than any packed matrix has."""


class FoldConstants(GraphPass):
    """onnxscript's folding, without its limits.

    Args:
        keep: operator types that are not folded.
    """

    def __init__(self, *keep: str) -> None:
        self.keep = keep

    def call(self, model: onnx_ir.Model) -> PassResult:
        """Fold."""
        from onnxscript.optimizer import fold_constants

        folded = fold_constants(
            model,
            input_size_limit=FOLD_LIMIT,
            output_size_limit=FOLD_LIMIT,
            should_fold=lambda node: False if node.op_type in self.keep else None,
        )
        return PassResult(model, folded.modified)
