"""Makes a graph that any ONNX runtime takes: constants folded, standard operators only."""

from __future__ import annotations

from collections.abc import Mapping

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
    """`Tidy`, after which the graph holds only standard operators.

    Args:
        expected: those of the standard's fused operators that it must have, by class; default: none.
    """

    def __init__(self, expected: Mapping[str, int] | None = None) -> None:
        super().__init__(expected or {})

    def ensures(self, model: onnx_ir.Model) -> None:
        """Every operator is a standard one, and no class has fewer fused ones than expected.

        Raises:
            FusionError: an operator of another domain, or too few fused ones.
        """
        super().ensures(model)
        foreign = sorted({f"{one.domain}.{one.op_type}" for one in model.graph if one.domain not in STANDARD_DOMAINS})
        if foreign:
            raise self.refusal(
                FusionError,
                f"the graph has operators that are not of the ONNX standard: {', '.join(foreign)}. {CHANGED}",
            )
