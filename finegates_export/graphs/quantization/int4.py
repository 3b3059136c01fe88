"""Weights of the layers' linears in 4 bits, by blocks of their inputs. Before fusion, as int8 is.

onnxruntime's MatMulNBits keeps a matrix packed, two weights a byte, with a scale and a zero point for each block of a
column, and unpacks it as it multiplies. Activations are not quantized in the file. Inputs that do not fill their last
block are padded inside the packed matrix, so any width is taken.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from finegates_export.errors import missing_extra
from finegates_export.graphs.quantization.int8 import quiet_quantizer
from finegates_export.graphs.saving import save_graph

FLOAT_STEPS, INTEGER_STEPS = 0, 4
"""The operator's `accuracy_level`: how a processor multiplies. In float, or with activations rounded to int8 block by
block, which its kernels are faster at."""


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
        # In 4 bits, as all its versions do unasked. A zero point for each block costs half a byte and rounds less.
        quantizer = MatMulNBitsQuantizer(
            graph,
            block_size=block_size,
            is_symmetric=False,
            accuracy_level=accuracy_level,
            nodes_to_exclude=others,
        )
        quantizer.process()
    save_graph(onnx_ir.from_proto(quantizer.model.model), target)
