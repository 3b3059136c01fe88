"""Makes a graph that any ONNX runtime takes: constants folded, standard operators only."""

from __future__ import annotations

import onnx_ir
from onnx_ir.passes import PassResult, Sequential
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    IdentityEliminationPass,
    RemoveUnusedNodesPass,
)

from finegates_export.errors import FusionError
from finegates_export.graphs.passes.fold_constants import FoldConstants
from finegates_export.graphs.passes.fuse import CHANGED, CountedFusions

STANDARD_DOMAINS = ("", "ai.onnx")


class Tidy(CountedFusions):
    """Fold constants, merge common subexpressions, and drop what nothing reads."""

    def call(self, model: onnx_ir.Model) -> PassResult:
        """Tidy up."""
        return Sequential(
            # Scales and zero points are constants too: folding them would undo the quantization.
            FoldConstants("DequantizeLinear"),
            IdentityEliminationPass(),
            CommonSubexpressionEliminationPass(),
            RemoveUnusedNodesPass(),
        )(model)


class StandardOperators(Tidy):
    """`Tidy`, after which the graph holds only standard operators."""

    def __init__(self) -> None:
        super().__init__({})

    def ensures(self, model: onnx_ir.Model) -> None:
        """Every operator is a standard one.

        Raises:
            FusionError: an operator of another domain.
        """
        foreign = sorted({f"{one.domain}.{one.op_type}" for one in model.graph if one.domain not in STANDARD_DOMAINS})
        if foreign:
            raise self.refusal(
                FusionError,
                f"the graph has operators that are not of the ONNX standard: {', '.join(foreign)}. {CHANGED}",
            )
