"""An export's report on its quantized form: what is quantized, what is not and why, and how well it predicts."""

from __future__ import annotations

from dataclasses import dataclass

from finegates_export.common.graph_forms import FULL_BITS
from finegates_export.pruning.slow_linears import FloatLinear
from finegates_export.verification.agreed import Agreed
from finegates_export.verification.report import agreed_lines


@dataclass(frozen=True)
class QuantizedForm:
    """The quantized graph beside the float one."""

    quantization: str
    """The value of `--quantize`."""
    products: int
    """Number of linears with quantized weights."""
    left_in_float: tuple[FloatLinear, ...]
    """The layers' other linears."""
    size_bytes: int
    """Size of the graph's file."""
    float_metric: float | None
    """The float graph's metric on the run's labelled rows; None if it kept none."""
    metric: float | None
    """The quantized graph's, on the same rows."""
    agreement: float | None
    """Agreement with the gated model; see `verification.link.Link`."""
    metric_name: str = ""
    """The run's metric, which both were measured by."""
    agreed: Agreed | None = None
    """The predictions, counted; None for scores and vectors."""
    head: bool = False
    """Whether the LM head is in int8 too."""
    weight_bits: int | None = None
    """Bits of an integer weight; None without any. With 8, the figures hold on processors like the exporting one."""

    @property
    def holds(self) -> str:
        """Where metric and agreement hold, as words."""
        if self.weight_bits is None or self.weight_bits < FULL_BITS:
            return "the figures hold on every processor"
        return (
            "the figures hold on processors that add products in 32 bits (x86 with VNNI, ARM with dot products, "
            "TensorRT); on others sums saturate"
        )

    def lines(self) -> list[str]:
        """Lines of the printed report."""
        linears = f"{self.products} of {self.products + len(self.left_in_float)} linears"
        told = [f"{self.quantization}: {linears}" + (", and the LM head in int8" if self.head else "")]
        if self.weight_bits is not None:
            told.append(f"int8 weights of {self.weight_bits} bits: {self.holds}")
        told += [f"  {left.linear} {left.why}" for left in self.left_in_float]
        if self.metric is not None and self.float_metric is not None:
            values = f"{self.float_metric:.4f} in float, {self.metric:.4f} in {self.quantization}"
            told.append(f"{self.metric_name or 'metric'}: {values}")
        if self.agreement is not None:
            told.append(f"agreement of {self.quantization} with the gated model: {self.agreement:.2%}")
        if self.agreed is not None:
            told += agreed_lines(self.agreed)
        return told
