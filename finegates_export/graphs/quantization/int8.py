"""Quantizes the layers' linears to int8, with signed weights per channel; before fusion.

Dynamic: activations are quantized at run time. Static: their ranges come from calibration rows, and the graph uses
standard operators: QuantizeLinear and DequantizeLinear around a MatMul.

onnxruntime's quantizer skips fused attention with ragged widths and would leave Q, K and V in float.
The head's linears (pooler, classifier) stay in float: they read one token per row, cost almost nothing, and decide the
answer.
Embedding tables and position terms stay in float too.

On x86 processors without VNNI, pairs of products are added in 16 bits and saturate: 2 * 255 * 127 is more than 32,767.
Weights of 7 bits keep below it, so they mean the same on every processor.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.graph_forms import FULL_BITS
from finegates_export.errors import missing_extra
from finegates_export.graphs.quantization.set_aside import put_back, set_aside

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Feeds = dict[str, npt.NDArray[np.generic]]
    """A batch of inputs by name."""


def quantize_dynamic_int8(
    source: Path, target: Path, products: Sequence[str], exclude: Sequence[str] = (), bits: int = FULL_BITS
) -> None:
    """Write the dynamic int8 form of a plain (unfused) graph: the layers' linears become integer products.

    Args:
        source: file with a plain graph.
        target: file to write.
        products: names of the nodes that multiply by the layers' linears.
        exclude: names of those among them that stay in float.
        bits: of a weight, 7 or 8.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise missing_extra("onnxruntime", "cpu") from error
    chosen = [name for name in products if name not in exclude]
    if not chosen:  # to the quantizer, an empty list means all nodes
        shutil.copyfile(source, target)
        return
    with quiet_quantizer(), tempfile.TemporaryDirectory(dir=target.parent) as folder:
        products_alone, quantized = Path(folder) / "products.onnx", Path(folder) / "quantized.onnx"
        aside = set_aside(source, products_alone, chosen)
        quantize_dynamic(
            products_alone,
            quantized,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=chosen,
            per_channel=True,
            reduce_range=bits < FULL_BITS,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        put_back(aside, source, quantized, target)


def quantize_static_int8(
    source: Path,
    target: Path,
    products: Sequence[str],
    rows: Iterable[Feeds],
    exclude: Sequence[str] = (),
    bits: int = FULL_BITS,
) -> None:
    """Write the static int8 form of a plain (unfused) graph: signed and symmetric on both sides, as TensorRT needs it.

    Args:
        source: file with a plain graph.
        target: file to write.
        products: names of the nodes that multiply by the layers' linears.
        rows: batches of inputs, by name, that show the activations' ranges.
        exclude: names of those products that stay in float.
        bits: of a weight, 7 or 8.
    """
    try:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise missing_extra("onnxruntime", "cpu") from error
    chosen = [name for name in products if name not in exclude]
    if not chosen:
        shutil.copyfile(source, target)
        return
    with quiet_quantizer():
        quantize_static(
            source,
            target,
            _Reader(rows),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=chosen,
            per_channel=True,
            reduce_range=bits < FULL_BITS,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "MatMulConstBOnly": True,
                # Sums and norms of the products' outputs are in float.
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
            },
        )


class _Reader:
    """Batches as the quantizer reads them: one per call, then None."""

    def __init__(self, rows: Iterable[Feeds]) -> None:
        self._rows = iter(rows)

    def get_next(self) -> Feeds | None:
        """The next batch."""
        return next(self._rows, None)


@contextlib.contextmanager
def quiet_quantizer() -> Iterator[None]:
    """Silence the quantizers: they recommend steps that were already taken, and log every node."""
    root, before = logging.getLogger(), logging.root.manager.disable
    placeholder = logging.NullHandler()  # one of them configures logging on import, if nothing else has
    root.addHandler(placeholder)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        root.removeHandler(placeholder)
