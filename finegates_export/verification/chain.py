"""Every form of the model against the gated one, on the same inputs.

float32 links are held to a difference of 1e-4 of the scale of the reference; quantized ones to equal predictions and
to the metric. The scale of a quantity is the largest absolute value the reference has over all inputs.

Shapes: B rows, S tokens, C labels, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from finegates_export.errors import ChainError
from finegates_export.options import Options, check
from finegates_export.verification.inputs import Batch

Array = npt.NDArray[Any]
Forward = Callable[[dict[str, Array]], tuple[Array, Array | None]]
"""From inputs to logits (B, C) and the last hidden state (B, S, D), the latter None where a form has none."""


@dataclass(frozen=True)
class Tolerances(Options):
    """What a link may differ by."""

    float32: float = 1e-4
    """Largest difference of a float32 link, relative to the scale."""
    agreement: float = 0.99
    """Share of equal predictions that a quantized link keeps at least."""
    metric_points: float = 1.0
    """Points (hundredths) of the metric that a quantized link loses at most."""

    def __post_init__(self) -> None:
        check(self.float32 > 0, "float32", f"must be positive, got {self.float32}")
        check(0 <= self.agreement <= 1, "agreement", f"must lie in [0, 1], got {self.agreement}")
        check(self.metric_points >= 0, "metric_points", f"must not be negative, got {self.metric_points}")


@dataclass(frozen=True)
class Link:
    """One form compared with the gated model."""

    name: str
    absolute: float
    """Largest absolute difference of the logits."""
    relative: float
    """The same over the logits' scale."""
    hidden_relative: float | None
    """Largest difference of the last hidden state over its scale, attended tokens only."""
    agreement: float | None
    """Share of rows with the same predicted label; for regression the correlation with the gated model's scores."""
    metric: float | None
    """Accuracy or Pearson correlation on the labelled rows; None without labels."""
    metric_lost: float | None
    exact: bool
    """Whether the link is held to the float32 tolerance."""


@dataclass
class Chain:
    """The links of one export, in order.

    Args:
        task: classification or regression.
        batches: the inputs of every link.
        tolerances: what links may differ by.
    """

    task: str
    batches: list[Batch]
    tolerances: Tolerances
    links: list[Link] = field(default_factory=list)
    _logits: list[Array] = field(default_factory=list)
    _hidden: list[Array] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows that every link ran on."""
        return sum(len(batch.attended) for batch in self.batches)

    @property
    def real_rows(self) -> int:
        """Rows of them that are the run's own."""
        return sum(len(batch.attended) for batch in self.batches if batch.labels is not None)

    def set_reference(self, forward: Forward) -> None:
        """Run the gated model; everything else is compared with this.

        Raises:
            ChainError: it has no last hidden state, or its outputs are not finite.
        """
        for batch in self.batches:
            logits_BC, hidden_BSD = forward(batch.inputs)
            if hidden_BSD is None:
                raise ChainError("the reference must return the last hidden state")
            if not (np.isfinite(logits_BC).all() and np.isfinite(hidden_BSD[batch.attended]).all()):
                raise ChainError("the gated model itself gives NaN or infinite values; train again")
            self._logits.append(logits_BC)
            self._hidden.append(hidden_BSD[batch.attended])

    def add(self, name: str, forward: Forward, *, exact: bool = True) -> Link:
        """Run one form and compare it.

        Raises:
            ChainError: it differs by more than the tolerance; nothing is exported then.
        """
        outputs = [forward(batch.inputs) for batch in self.batches]
        self._check_shapes(name, outputs)
        logits = [logits_BC for logits_BC, _ in outputs]
        absolute = _largest_difference(logits, self._logits)
        relative = absolute / _scale(self._logits)
        hidden_relative = None
        if outputs[0][1] is not None:
            hidden = [h[batch.attended] for (_, h), batch in zip(outputs, self.batches, strict=True) if h is not None]
            hidden_relative = _largest_difference(hidden, self._hidden) / _scale(self._hidden)
        before, after = self._metric(self._logits), self._metric(logits)
        link = Link(
            name=name,
            absolute=absolute,
            relative=relative,
            hidden_relative=hidden_relative,
            agreement=self._agreement(logits),
            metric=after,
            metric_lost=None if before is None or after is None else before - after,
            exact=exact,
        )
        self.links.append(link)
        self._judge(link)
        return link

    def drop(self, prefix: str) -> None:
        """Forget the links whose name starts with `prefix`: that form was given up for another."""
        self.links = [link for link in self.links if not link.name.startswith(prefix)]

    def _judge(self, link: Link) -> None:
        tolerances = self.tolerances
        worst = max(link.relative, link.hidden_relative or 0.0)
        if not np.isfinite([link.relative, link.hidden_relative or 0.0]).all():
            raise ChainError(
                f"{link.name} gives NaN or infinite values; nothing was written. Please report it with the run"
            )
        if link.exact:
            if worst > tolerances.float32:
                raise ChainError(
                    f"{link.name} differs from the gated model by {worst:.2e} of the scale, more than "
                    f"{tolerances.float32:.0e}; nothing was written. This is a defect, please report it with the run"
                )
            return
        if link.agreement is not None and link.agreement < tolerances.agreement:
            share = f"agrees with the gated model on {link.agreement:.2%} of the predictions"
            if self.task == "regression":
                share = f"correlates with the gated model's scores at {link.agreement:.2%}"
            raise ChainError(
                f"{link.name} {share}, less than {tolerances.agreement:.2%}; nothing was written. Export without "
                "--quantize, or set --min-agreement"
            )
        if link.metric_lost is not None and link.metric_lost * 100 > tolerances.metric_points:
            raise ChainError(
                f"{link.name} loses {link.metric_lost * 100:.2f} points of the metric, more than "
                f"{tolerances.metric_points:.2f}; nothing was written. Export without --quantize, or set "
                "--max-metric-loss"
            )

    def _check_shapes(self, name: str, outputs: list[tuple[Array, Array | None]]) -> None:
        for (logits, hidden), expected, hidden_ND, batch in zip(
            outputs, self._logits, self._hidden, self.batches, strict=True
        ):
            wanted = (*batch.attended.shape, hidden_ND.shape[-1])
            found = [] if hidden is None or hidden.shape == wanted else [(hidden.shape, wanted)]
            found += [] if logits.shape == expected.shape else [(logits.shape, expected.shape)]
            if found:
                raise ChainError(
                    f"{name} gives outputs of shape {found[0][0]}, the gated model of shape {found[0][1]}; nothing was "
                    "written. This is a defect, please report it with the run"
                )

    def _agreement(self, logits: list[Array]) -> float | None:
        if self.task == "regression":
            before, after = (np.concatenate([side[i][:, 0] for i in self._judged()]) for side in (self._logits, logits))
            return _correlation(after, before)
        pairs = [(self._logits[i].argmax(-1), logits[i].argmax(-1)) for i in self._judged()]
        return float(np.concatenate([before == after for before, after in pairs]).mean())

    def _judged(self) -> list[int]:
        """Batches whose predictions count: the run's own rows where there are any, else the random ones."""
        real = [i for i, batch in enumerate(self.batches) if batch.labels is not None]
        return real or list(range(len(self.batches)))

    def _metric(self, logits: list[Array]) -> float | None:
        labelled = [(logits[i], batch.labels) for i, batch in enumerate(self.batches) if batch.labels is not None]
        if not labelled:
            return None
        predicted = np.concatenate([outputs for outputs, _ in labelled])
        truth = np.concatenate([labels for _, labels in labelled if labels is not None])
        if self.task == "classification":
            return float((predicted.argmax(-1) == truth).mean())
        return _correlation(predicted[:, 0], truth)


def _correlation(predicted: Array, truth: Array) -> float | None:
    """Pearson's; 0 for a constant prediction, None where the truth itself is constant."""
    if np.ptp(truth) == 0:
        return None
    return float(np.corrcoef(predicted, truth)[0, 1]) if np.ptp(predicted) > 0 else 0.0


def _largest_difference(one: list[Array], other: list[Array]) -> float:
    """NaN where anything is NaN: Python's max would drop it."""
    return float(np.max([np.abs(a - b).max(initial=0.0) for a, b in zip(one, other, strict=True)]))


def _scale(arrays: list[Array]) -> float:
    return max(float(np.finfo(np.float32).tiny), *(float(np.abs(array).max(initial=0.0)) for array in arrays))
