"""Every form of the model against the gated one, on the same inputs, output by output.

float32 links may differ by 1e-4 of the reference's scale; where rounding alone misses that, both sides are compared
with the gated model in float64. Quantized ones are checked for equal predictions and for the
metric. The scale of an output is the largest absolute value the reference has over all inputs. Outputs with a
value per token count only at attended tokens, others only at rows with an attended token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from finegates_export.common.tasks import HIDDEN, LOGITS, task_of
from finegates_export.common.tasks.arrays import Array, Outputs
from finegates_export.common.tasks.pooling import Pooling
from finegates_export.errors import ChainError
from finegates_export.verification.allowed import check_link, is_rounding
from finegates_export.verification.inputs import Batch
from finegates_export.verification.judge import Judge
from finegates_export.verification.link import Link, Tolerances
from finegates_export.verification.precise import Forward, Precise
from finegates_export.verification.reading import check_inputs
from finegates_export.verification.steps import CachedForm, same_choices
from finegates_export.verification.stored import Stored

Read = Callable[[Sequence[object]], dict[str, Array]]
"""Makes a form's inputs of texts."""


@dataclass
class Chain:
    """The links of one export, in order.

    Args:
        task: a name of `TASKS`.
        batches: the inputs of every link.
        tolerances: how far links may differ.
        outputs: what every form must return; default: the task's outputs.
        pooling: how to pool the last hidden state into an embedding.
        metric: the run's metric; the task's first one if empty.
        labels: names in the order of the head's outputs.
    """

    task: str
    batches: list[Batch]
    tolerances: Tolerances
    outputs: tuple[str, ...] = ()
    pooling: Pooling | None = None
    metric: str = ""
    labels: tuple[str, ...] = ()
    links: list[Link] = field(default_factory=list)
    _predicted: list[Outputs] = field(default_factory=list)
    _scale: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        task = task_of(self.task)
        self.outputs = self.outputs or task.outputs
        self._judge = Judge(task, self.pooling, self.metric, self.labels).over(self.batches)
        self.metric = self._judge.metric_name
        self._reference = Stored(on_disk=task.generates)
        self._precise: Precise | None = None

    @property
    def rows(self) -> int:
        """Number of rows that every link ran on."""
        return sum(batch.rows for batch in self.batches)

    @property
    def real_rows(self) -> int:
        """Number of them that are the run's own."""
        return sum(batch.rows for batch in self.batches if batch.real)

    def set_reference(self, forward: Forward, precise: Callable[[], Forward] | None = None) -> None:
        """Run the gated model, the reference for everything else.

        Args:
            forward: the gated model in float32.
            precise: makes the gated model in float64, for links that miss their limit by so little that it may be
                rounding. None: they are refused.

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
            self._predicted.append(self._judge.kept(outputs, batch))
        self._precise = None if precise is None else Precise(precise, Stored(on_disk=self._judge.task.generates))

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
            self._widen(absolute, outputs, expected, batch)
            if batch.written and isinstance(forward, CachedForm):
                tie = 2 * self.tolerances.float32 * self._scale[LOGITS]
                choices.append(same_choices(expected[LOGITS], outputs[LOGITS], batch.written, tie))
            predicted.append(self._judge.kept(outputs, batch))
        link = self._link(name, absolute, predicted, exact=exact)
        if choices:
            link = replace(link, greedy=float(np.concatenate(choices).mean()))
        link = self._in_float64(link, lambda batch: _run(forward, batch), range(len(self.batches)))
        self.links.append(link)
        check_link(link, self.tolerances, self._judge)
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

        def run(batch: Batch) -> Outputs:
            return _run(forward, replace(batch, inputs=read(batch.texts)))

        absolute: dict[str, float] = {}
        for number, (batch, expected) in enumerate(zip(self.batches, self._reference, strict=True)):
            if number not in own:
                continue
            check_inputs(name, batch, read(batch.texts))
            outputs = run(batch)
            self._check_shapes(name, outputs, expected)
            self._widen(absolute, outputs, expected, batch)
        # A few rows cannot tell a share of equal predictions: of a rounded form, their inputs are what is compared.
        link = Link(name, **self._differences(absolute), agreement=None, metric=None, metric_lost=None, exact=exact)
        link = self._in_float64(link, run, own)
        names = [before.name for before in self.links]
        self.links.insert(names.index(behind) + 1 if behind in names else len(names), link)
        check_link(link, self.tolerances, self._judge)
        return link

    def _in_float64(self, link: Link, run: Callable[[Batch], Outputs], numbers: Sequence[int]) -> Link:
        """The link compared with the gated model in float64, if it missed its limit by so little that it is rounding.

        Args:
            link: compared in float32.
            run: runs its form on a batch.
            numbers: of the batches it is compared on.
        """
        if self._precise is None or not is_rounding(link, self.tolerances):
            return link
        gated: dict[str, float] = {}
        absolute: dict[str, float] = {}
        precise = self._precise.outputs(lambda forward: (_run(forward, batch) for batch in self.batches))
        pairs = zip(self.batches, self._reference, precise, strict=True)
        for number, (batch, single, double) in enumerate(pairs):
            self._widen(gated, single, double, batch)
            if number in numbers:
                self._widen(absolute, run(batch), double, batch)
        own = self._differences(gated)
        rounding = float(np.max([own["relative"], own["hidden_relative"] or 0.0]))
        return replace(link, **self._differences(absolute), gated_rounding=rounding)

    def _widen(self, absolute: dict[str, float], found: Outputs, expected: Outputs, batch: Batch) -> None:
        """Note the largest difference of each output so far; NaN if any value is."""
        for output in found:
            largest = self._difference(output, found, expected, batch)
            # Python's max would drop a NaN.
            absolute[output] = float(np.max([absolute.get(output, 0.0), largest]))

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
        one, other = ([side[i] for i in self._judged()] for side in (self._predicted, predicted))
        batches = [self.batches[i] for i in self._judged()]
        return Link(
            name=name,
            **self._differences(absolute),
            agreement=self._judge.agreement(one, other, batches),
            metric=after,
            metric_lost=self._judge.lost(before, after, batches),
            exact=exact,
            agreed=None if exact else self._judge.agreed(one, other, batches),
        )

    def drop(self, prefix: str) -> None:
        """Forget the links whose name starts with `prefix`: that form was replaced by another."""
        self.links = [link for link in self.links if not link.name.startswith(prefix)]

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
