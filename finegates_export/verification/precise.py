"""The gated model in float64, made and run only where a float32 link misses its limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from finegates_export.common.tasks.arrays import Array, Outputs
from finegates_export.verification.stored import Stored

Forward = Callable[[dict[str, Array]], Outputs]
"""Maps inputs to outputs by name, including the last hidden state unless the form has none."""


@dataclass(frozen=True)
class Precise:
    """What the gated model returns in float64, batch by batch; computed once."""

    make: Callable[[], Forward]
    """Makes the model, which is freed once it has run."""
    stored: Stored

    def outputs(self, run: Callable[[Forward], Iterable[Outputs]]) -> Stored:
        """Its outputs for every batch.

        Args:
            run: runs a form on every batch.
        """
        if not len(self.stored):
            for outputs in run(self.make()):
                self.stored.append(outputs)
        return self.stored
