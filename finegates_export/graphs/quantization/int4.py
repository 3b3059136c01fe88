"""Quantizes the weights of the layers' linears to 4 bits, in blocks of inputs; before fusion, like int8.

onnxruntime's MatMulNBits keeps a matrix packed, two weights a byte, with a scale and a zero point for each block of a
column, and unpacks it as it multiplies. Activations are not quantized in the file. The last block is padded inside the
packed matrix, so any width works.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from finegates_export.errors import missing_extra
from finegates_export.graphs.quantization.int8 import quiet_quantizer
from finegates_export.graphs.saving import save_graph

FLOAT_STEPS, INTEGER_STEPS = 0, 4
"""The operator's `accuracy_level`: how a processor multiplies. In float, or, faster, with activations rounded to int8
block by block."""


def quantize_int4(
    source: Path,
    target: Path,
    products: Sequence[str],
    exclude: Sequence[str] = (),
    *,
    block_size: int,
    accuracy_level: int,
) -> None:
    """Write the 4-bit form of a plain (unfused) float32 graph.

    Args:
        source: file with a plain graph.
        target: file to write.
        products: names of the nodes that multiply by the layers' linears.
        exclude: names of those among them that stay in float.
        block_size: inputs that share a scale.
        accuracy_level: `FLOAT_STEPS` or `INTEGER_STEPS`.
    """
    import onnx
    import onnx_ir

    chosen = set(products) - set(exclude)
    if not chosen:
        shutil.copyfile(source, target)
        return
    graph = onnx.load(source)
    others = [node.name for node in graph.graph.node if node.name not in chosen]
    with quiet_quantizer():
        try:
            from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
        except ImportError as error:
            raise missing_extra("onnxruntime", "cpu") from error
        # 4 bits are the default of all its versions. A zero point per block costs half a byte and lowers the error.
        quantizer = MatMulNBitsQuantizer(
            graph,
            block_size=block_size,
            is_symmetric=False,
            accuracy_level=accuracy_level,
            nodes_to_exclude=others,
        )
        quantizer.process()
    save_graph(onnx_ir.from_proto(quantizer.model.model), target)
