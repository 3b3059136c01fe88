"""What passes share: a name in their errors, and one way to run them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import onnx_ir
from onnx_ir.passes import FunctionalPass, InPlacePass, InvariantError, PassBase, PassError, Sequential

from finegates_export.errors import FineGatesError

Refusal = TypeVar("Refusal", bound=FineGatesError)


class NamedPass(PassBase):
    """A pass whose errors name it.

    `requires` and `ensures` raise what `refusal` makes. Calling the pass itself raises `PreconditionError` or
    `PostconditionError` from it; `run_passes` raises it as it is.
    """

    def __str__(self) -> str:
        return type(self).__name__

    def refusal(self, kind: type[Refusal], message: str) -> Refusal:
        """An error that names the pass, for the maintainers."""
        return kind(f"{message} (pass {self})")


class GraphPass(NamedPass, InPlacePass):
    """A pass that changes the graph in place."""


class NewGraphPass(NamedPass, FunctionalPass):
    """A pass that makes another graph."""


def run_passes(graph: onnx_ir.Model, passes: Sequence[PassBase]) -> onnx_ir.Model:
    """Run passes in order.

    Args:
        graph: the first pass's input; passes that work in place change it.
        passes: one or more.

    Returns:
        The last pass's output.

    Raises:
        FineGatesError: a pass was refused; the error is the one that its `requires` or `ensures` raised.
    """
    try:
        return Sequential(*passes)(graph).model
    except (PassError, InvariantError) as error:
        failure = _root(error)
    raise failure


def _root(error: BaseException) -> BaseException:
    """The error that a pass raised, without onnx_ir's own around it."""
    while isinstance(error, PassError | InvariantError) and error.__cause__ is not None:
        error = error.__cause__
    return error
