"""Every form of the model against the gated one, on the same inputs, output by output.

float32 links are held to a difference of 1e-4 of the scale of the reference; quantized ones to equal predictions and
to the metric. The scale of an output is the largest absolute value the reference has over all inputs. Outputs with a
value for every token count at attended tokens alone, others at rows with an attended token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from finegates_export.errors import ChainError
from finegates_export.options import Options, check
from finegates_export.pooling import Pooling
from finegates_export.tasks import HIDDEN, task_of
from finegates_export.verification.inputs import Batch
from finegates_export.verification.judge import Array, Judge, Outputs

Forward = Callable[[dict[str, Array]], Outputs]
"""From inputs to outputs by name; the last hidden state is among them unless the form has none."""


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
    """Largest absolute difference of the task's outputs."""
    relative: float
    """Largest difference of the task's outputs, each over its own scale."""
    hidden_relative: float | None
    """Largest difference of the last hidden state over its scale; None where the form does not return it."""
    agreement: float | None
    """Share of equal predictions; the correlation with the gated model's scores for regression, the mean cosine
    similarity for embeddings and features."""
    metric: float | None
    """On the labelled rows, see `Judge.metric`; None without labels."""
    metric_lost: float | None
    exact: bool
    """Whether the link is held to the float32 tolerance."""


@dataclass
class Chain:
    """The links of one export, in order.

    Args:
        task: a name of `TASKS`.
        batches: the inputs of every link.
        tolerances: what links may differ by.
        outputs: what every form must return; default: the task's outputs.
        pooling: how an embedding is made of the last hidden state.
    """

    task: str
    batches: list[Batch]
    tolerances: Tolerances
    outputs: tuple[str, ...] = ()
    pooling: Pooling | None = None
    links: list[Link] = field(default_factory=list)
    _reference: list[Outputs] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.outputs = self.outputs or task_of(self.task).outputs
        self._judge = Judge(task_of(self.task), self.pooling)

    @property
    def rows(self) -> int:
        """Rows that every link ran on."""
        return sum(batch.rows for batch in self.batches)

    @property
    def real_rows(self) -> int:
        """Rows of them that are the run's own."""
        return sum(batch.rows for batch in self.batches if batch.real)

    def set_reference(self, forward: Forward) -> None:
        """Run the gated model; everything else is compared with this.

        Raises:
            ChainError: an output or the last hidden state is missing, or values are not finite.
        """
        for batch in self.batches:
            outputs = forward(batch.inputs)
            missing = [name for name in (*self.outputs, HIDDEN) if name not in outputs]
            if missing:
                raise ChainError(f"the reference must return {missing[0]}; it returns {', '.join(outputs)}")
            if not all(np.isfinite(self._counted(name, array, batch)).all() for name, array in outputs.items()):
                raise ChainError("the gated model itself gives NaN or infinite values; train again")
            self._reference.append(outputs)

    def add(self, name: str, forward: Forward, *, exact: bool = True) -> Link:
        """Run one form and compare it.

        Raises:
            ChainError: it differs by more than the tolerance; nothing is exported then.
        """
        outputs = [forward(batch.inputs) for batch in self.batches]
        self._check_shapes(name, outputs)
        absolute = {output: self._difference(output, outputs) for output in outputs[0]}
        relative = {output: difference / self._scale(output) for output, difference in absolute.items()}
        before = self._judge.metric(self._reference, self.batches)
        after = self._judge.metric(outputs, self.batches)
        judged = self._judged()
        own = [output for output in absolute if output != HIDDEN or output in self.outputs]
        link = Link(
            name=name,
            absolute=float(np.max([absolute[output] for output in own])),
            relative=float(np.max([relative[output] for output in own])),
            hidden_relative=relative.get(HIDDEN),
            agreement=self._judge.agreement(
                [self._reference[i] for i in judged], [outputs[i] for i in judged], [self.batches[i] for i in judged]
            ),
            metric=after,
            metric_lost=None if before is None or after is None else before - after,
            exact=exact,
        )
        self.links.append(link)
        self._check(link)
        return link

    def drop(self, prefix: str) -> None:
        """Forget the links whose name starts with `prefix`: that form was given up for another."""
        self.links = [link for link in self.links if not link.name.startswith(prefix)]

    def _check(self, link: Link) -> None:
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
            raise ChainError(
                f"{link.name} {self._judge.told(link.agreement)}, less than {tolerances.agreement:.2%}; nothing was "
                "written. Export without --quantize, or set --min-agreement"
            )
        if link.metric_lost is not None and link.metric_lost * 100 > tolerances.metric_points:
            raise ChainError(
                f"{link.name} loses {link.metric_lost * 100:.2f} points of the metric, more than "
                f"{tolerances.metric_points:.2f}; nothing was written. Export without --quantize, or set "
                "--max-metric-loss"
            )

    def _check_shapes(self, name: str, outputs: list[Outputs]) -> None:
        for found, expected in zip(outputs, self._reference, strict=True):
            missing = [output for output in self.outputs if output not in found]
            if missing:
                raise ChainError(
                    f"{name} does not give the output {missing[0]}; nothing was written. This is a defect, please "
                    "report it with the run"
                )
            for output, array in found.items():
                if array.shape != expected[output].shape:
                    raise ChainError(
                        f"{name} gives {output} of shape {array.shape}, the gated model of shape "
                        f"{expected[output].shape}; nothing was written. This is a defect, please report it with the "
                        "run"
                    )

    def _counted(self, output: str, array: Array, batch: Batch) -> Array:
        """The values of an output that count."""
        mask = batch.attended
        if mask is None:
            return array
        return array[mask] if output in self._judge.task.per_token else array[mask.any(1)]

    def _all_counted(self, output: str, outputs: list[Outputs]) -> Iterator[Array]:
        for one, batch in zip(outputs, self.batches, strict=True):
            yield self._counted(output, one[output], batch)

    def _difference(self, output: str, outputs: list[Outputs]) -> float:
        """The largest one; NaN where anything is NaN: Python's max would drop it."""
        pairs = zip(self._all_counted(output, outputs), self._all_counted(output, self._reference), strict=True)
        return float(np.max([np.abs(one - other).max(initial=0.0) for one, other in pairs]))

    def _scale(self, output: str) -> float:
        largest = [float(np.abs(array).max(initial=0.0)) for array in self._all_counted(output, self._reference)]
        return max(float(np.finfo(np.float32).tiny), *largest)

    def _judged(self) -> list[int]:
        """Batches whose predictions count: the run's own rows where there are any, else the random ones."""
        real = [i for i, batch in enumerate(self.batches) if batch.real]
        return real or list(range(len(self.batches)))
