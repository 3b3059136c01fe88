"""An export's report on its OpenVINO form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finegates_export.runtime.openvino_session import Computed


@dataclass(frozen=True)
class OpenVinoForm:
    """An export's report on its IR."""

    weights: str
    """The type of the stored weights: float32 or float16."""
    size_bytes: int
    """Size of the IR's two files."""
    attention: int
    """Attention operators, one a layer."""
    precisions: tuple[Computed, ...]
    """What it was proven in."""
    unproven: str = ""
    """Why bfloat16 is not among them; empty if it is."""

    def lines(self) -> list[str]:
        """Lines of the printed report."""
        told = f"OpenVINO: {self.attention} attention operators, {self.weights} weights"
        proven = f"proven in {' and '.join(self.precisions)}"
        return [f"{told}, {proven}" + (f"; not in bfloat16: {self.unproven}" if self.unproven else "")]
