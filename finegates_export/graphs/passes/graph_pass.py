"""What passes share: a name in their errors, and one way to run them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import onnx_ir
from onnx_ir.passes import InPlacePass, InvariantError, PassBase, PassError, Sequential

from finegates_export.errors import FineGatesError

Refusal = TypeVar("Refusal", bound=FineGatesError)


class GraphPass(InPlacePass):
    """A pass that changes the graph in place.

    `requires` and `ensures` raise what `refusal` makes. A caller of the pass itself sees `PreconditionError` or
    `PostconditionError` caused by it, a caller of `run_passes` sees it as it is.
    """

    def __str__(self) -> str:
        return type(self).__name__

    def refusal(self, kind: type[Refusal], message: str) -> Refusal:
        """An error that names the pass, for the maintainers that it will be reported to."""
        return kind(f"{message} (pass {self})")


def run_passes(graph: onnx_ir.Model, passes: Sequence[PassBase]) -> onnx_ir.Model:
    """Run passes in order.

    Args:
        graph: what the first of them takes; changed in place by passes that work in place.
        passes: one or more.

    Returns:
        What the last of them returns.

    Raises:
        FineGatesError: a pass was refused; the error is the one that its `requires` or `ensures` raised.
    """
    try:
        return Sequential(*passes)(graph).model
    except (PassError, InvariantError) as error:
        failure = _root(error)
    raise failure


def _root(error: BaseException) -> BaseException:
    """What a pass raised, without the errors that onnx_ir wraps around it."""
    while isinstance(error, PassError | InvariantError) and error.__cause__ is not None:
        error = error.__cause__
    return error
