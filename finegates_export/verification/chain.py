"""Every form of the model against the gated one, on the same inputs, output by output.

float32 links may differ by 1e-4 of the reference's scale; quantized ones are checked for equal predictions and for the
metric. The scale of an output is the largest absolute value the reference has over all inputs. Outputs with a
value per token count only at attended tokens, others only at rows with an attended token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from finegates_export.common.options import Options, check
from finegates_export.common.tasks import HIDDEN, LOGITS, task_of
from finegates_export.common.tasks.arrays import Array, Outputs
from finegates_export.common.tasks.pooling import Pooling
from finegates_export.errors import ChainError
from finegates_export.verification.inputs import Batch
from finegates_export.verification.judge import Judge
from finegates_export.verification.reading import check_inputs
from finegates_export.verification.steps import CachedForm, same_choices
from finegates_export.verification.stored import Stored

Read = Callable[[Sequence[object]], dict[str, Array]]
"""Makes a form's inputs of texts."""
Forward = Callable[[dict[str, Array]], Outputs]
"""Maps inputs to outputs by name, including the last hidden state unless the form has none."""


@dataclass(frozen=True)
class Tolerances(Options):
    """How far a link may differ."""

    float32: float = 1e-4
    """Largest difference of a float32 link, relative to the scale."""
    agreement: float = 0.99
    """Least share of equal predictions for a quantized link."""
    metric_points: float = 1.0
    """Most points (hundredths) of the metric that a quantized link may lose."""

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
    """Largest difference of the task's outputs, each relative to its own scale."""
    hidden_relative: float | None
    """Largest difference of the last hidden state over its scale; None if the form does not return it."""
    agreement: float | None
    """Share of equal predictions; for regression, the correlation with the gated model's scores; for embeddings and
    features, the mean cosine similarity."""
    metric: float | None
    """The metric on labelled rows, see `Judge.metric`; None without labels."""
    metric_lost: float | None
    exact: bool
    """Whether the float32 tolerance applies to the link."""
    greedy: float | None = None
    """Share of the gated model's generated tokens that the form chooses too, token by token; ties count."""


@dataclass
class Chain:
    """The links of one export, in order.

    Args:
        task: a name of `TASKS`.
        batches: the inputs of every link.
        tolerances: how far links may differ.
        outputs: what every form must return; default: the task's outputs.
        pooling: how to pool the last hidden state into an embedding.
    """

    task: str
    batches: list[Batch]
    tolerances: Tolerances
    outputs: tuple[str, ...] = ()
    pooling: Pooling | None = None
    links: list[Link] = field(default_factory=list)
    _predicted: list[Outputs] = field(default_factory=list)
    _scale: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        task = task_of(self.task)
        self.outputs = self.outputs or task.outputs
        self._judge = Judge(task, self.pooling)
        self._reference = Stored(on_disk=task.generates)

    @property
    def rows(self) -> int:
        """Number of rows that every link ran on."""
        return sum(batch.rows for batch in self.batches)

    @property
    def real_rows(self) -> int:
        """Number of them that are the run's own."""
        return sum(batch.rows for batch in self.batches if batch.real)

    def set_reference(self, forward: Forward) -> None:
        """Run the gated model, the reference for everything else.

        Raises:
            ChainError: an output or the last hidden state is missing, or values are not finite.
        """
        for batch in self.batches:
            outputs = _run(forward, batch)
            missing = [name for name in (*self.outputs, HIDDEN) if name not in outputs]
            if missing:
                raise ChainError(f"the reference must return {missing[0]}; it returns {', '.join(outputs)}")
            for name, array in outputs.items():
                counted = self._counted(name, array, batch)
                if not np.isfinite(counted).all():
                    raise ChainError("the gated model itself returns NaN or infinite values; train again")
                smallest = self._scale.get(name, float(np.finfo(np.float32).tiny))
                self._scale[name] = max(smallest, float(np.abs(counted).max(initial=0.0)))
            self._reference.append(outputs)
            self._predicted.append(self._judge.kept(outputs))

    def add(self, name: str, forward: Forward, *, exact: bool = True) -> Link:
        """Run one form and compare it.

        Raises:
            ChainError: it differs by more than the tolerance; then nothing is exported.
        """
        predicted: list[Outputs] = []
        absolute: dict[str, float] = {}
        choices: list[Array] = []
        for batch, expected in zip(self.batches, self._reference, strict=True):
            outputs = _run(forward, batch)
            self._check_shapes(name, outputs, expected)
            for output in outputs:
                largest = self._difference(output, outputs, expected, batch)
                # Python's max would drop a NaN.
                absolute[output] = float(np.max([absolute.get(output, 0.0), largest]))
            if batch.written and isinstance(forward, CachedForm):
                tie = 2 * self.tolerances.float32 * self._scale[LOGITS]
                choices.append(same_choices(expected[LOGITS], outputs[LOGITS], batch.written, tie))
            predicted.append(self._judge.kept(outputs))
        link = self._link(name, absolute, predicted, exact=exact)
        if choices:
            link = replace(link, greedy=float(np.concatenate(choices).mean()))
        self.links.append(link)
        self._check(link)
        return link

    def add_texts(
        self, name: str, read: Read, forward: Forward, *, exact: bool = True, behind: str = ""
    ) -> Link | None:
        """Compare what a delivered form makes of texts with what the gated model makes of their rows in training.

        Args:
            name: the link's.
            read: makes inputs of a batch's texts, as the delivered form's users do.
            forward: the form.
            exact: see `add`.
            behind: the link it is put behind; at the end without one of that name.

        Returns:
            The link; None if no batch has texts.

        Raises:
            ChainError: a text is read otherwise than in training, or the form differs by more than the tolerance.
        """
        own = [number for number, batch in enumerate(self.batches) if batch.texts]
        if not own:
            return None
        absolute: dict[str, float] = {}
        for number, (batch, expected) in enumerate(zip(self.batches, self._reference, strict=True)):
            if number not in own:
                continue
            inputs = read(batch.texts)
            check_inputs(name, batch, inputs)
            outputs = _run(forward, replace(batch, inputs=inputs))
            self._check_shapes(name, outputs, expected)
            for output in outputs:
                largest = self._difference(output, outputs, expected, batch)
                absolute[output] = float(np.max([absolute.get(output, 0.0), largest]))
        # A few rows cannot tell a share of equal predictions: of a rounded form, their inputs are what is compared.
        link = Link(name, **self._differences(absolute), agreement=None, metric=None, metric_lost=None, exact=exact)
        names = [before.name for before in self.links]
        self.links.insert(names.index(behind) + 1 if behind in names else len(names), link)
        self._check(link)
        return link

    def _differences(self, absolute: dict[str, float]) -> dict[str, Any]:
        """The fields of a link that say how far outputs differ, from the largest difference of each output."""
        relative = {output: difference / self._scale[output] for output, difference in absolute.items()}
        own = [output for output in absolute if output != HIDDEN or output in self.outputs]
        return {
            "absolute": float(np.max([absolute[output] for output in own])),
            "relative": float(np.max([relative[output] for output in own])),
            "hidden_relative": relative.get(HIDDEN),
        }

    def _link(self, name: str, absolute: dict[str, float], predicted: list[Outputs], *, exact: bool) -> Link:
        before = self._judge.metric(self._predicted, self.batches)
        after = self._judge.metric(predicted, self.batches)
        judged = self._judged()
        return Link(
            name=name,
            **self._differences(absolute),
            agreement=self._judge.agreement(
                [self._predicted[i] for i in judged], [predicted[i] for i in judged], [self.batches[i] for i in judged]
            ),
            metric=after,
            metric_lost=None if before is None or after is None else before - after,
            exact=exact,
        )

    def drop(self, prefix: str) -> None:
        """Forget the links whose name starts with `prefix`: that form was replaced by another."""
        self.links = [link for link in self.links if not link.name.startswith(prefix)]

    def _check(self, link: Link) -> None:
        tolerances = self.tolerances
        worst = max(link.relative, link.hidden_relative or 0.0)
        if not np.isfinite([link.relative, link.hidden_relative or 0.0]).all():
            raise ChainError(
                f"{link.name} returns NaN or infinite values; nothing was written. Please report it with the run"
            )
        if link.exact:
            if worst > tolerances.float32:
                raise ChainError(
                    f"{link.name} differs from the gated model by {worst:.2e} of the scale, more than "
                    f"{tolerances.float32:.0e}; nothing was written. A model that was closed until its metric broke "
                    "down magnifies rounding: train it again, and close less. Rarely, a random row does so: another "
                    "--seed draws others. Anything else is our defect, please report it with the run"
                )
            if link.greedy is not None and link.greedy < 1:
                raise ChainError(
                    f"{link.name} writes another text than the gated model: {link.greedy:.2%} of the tokens are the "
                    "same; nothing was written. This is a defect, please report it with the run"
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

    def _check_shapes(self, name: str, found: Outputs, expected: Outputs) -> None:
        missing = [output for output in self.outputs if output not in found]
        if missing:
            raise ChainError(
                f"{name} does not return the output {missing[0]}; nothing was written. This is a defect, please "
                "report it with the run"
            )
        for output, array in found.items():
            if array.shape != expected[output].shape:
                raise ChainError(
                    f"{name} returns {output} of shape {array.shape}, the gated model of shape "
                    f"{expected[output].shape}; nothing was written. This is a defect, please report it with the "
                    "run"
                )

    def _counted(self, output: str, array: Array, batch: Batch) -> Array:
        """The values of an output that count."""
        mask = batch.attended
        if mask is None:
            return array
        return array[mask] if output in self._judge.task.per_token else array[mask.any(1)]

    def _difference(self, output: str, found: Outputs, expected: Outputs, batch: Batch) -> float:
        """The largest value; NaN if any value is NaN."""
        one, other = (self._counted(output, side[output], batch) for side in (found, expected))
        return float(np.abs(one - other).max(initial=0.0))

    def _judged(self) -> list[int]:
        """Batches whose predictions count: the run's own rows if there are any, else the random ones."""
        real = [i for i, batch in enumerate(self.batches) if batch.real]
        return real or list(range(len(self.batches)))


def _run(forward: Forward, batch: Batch) -> Outputs:
    if batch.steps and isinstance(forward, CachedForm):
        return forward.in_steps(batch.inputs, batch.steps)
    return forward(batch.inputs)
