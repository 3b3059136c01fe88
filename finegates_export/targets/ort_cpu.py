"""onnxruntime on the CPU: contrib operators fused in, any width taken."""

from __future__ import annotations

from typing import Any

from finegates_export.gates.settle import Widths
from finegates_export.onnx.fuse import fuse_for_ort

NAME = "ort-cpu"
OPSET = 20
WIDTHS = Widths(head_multiple=1, ffn_multiple=1)
"""Which widths its kernels like."""


def finish(graph: Any, expected_fusions: dict[str, int]) -> Any:
    """The passes that turn a plain graph into this target's."""
    return fuse_for_ort(graph, expected_fusions)
