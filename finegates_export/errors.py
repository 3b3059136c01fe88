"""Every error a user can meet, under one root.

A message says what is wrong, with the values, and what to do about it. Commands print it on one line.
"""

from __future__ import annotations

NOTHING_WRITTEN = "nothing was written"
"""What a message says of an export that was refused as a whole."""


class FineGatesError(Exception):
    """The root: catch this to catch everything the library raises on purpose."""


class InputError(FineGatesError):
    """An input cannot be used: data, a base model, an adapter, a gate vector."""


class RunFolderError(FineGatesError):
    """A run folder is missing, damaged, of another schema, or made with another base."""


class UnsupportedError(FineGatesError):
    """A family, task, adapter or layout is not supported; the message names it and what is supported."""


class ChainError(FineGatesError):
    """A link of the chain of equivalence checks did not hold; nothing was written."""


class FormRefusedError(FineGatesError):
    """A quantized form was refused; the bundle with the float form alone, which holds, lies in place."""


class FusionError(FineGatesError):
    """The target fused fewer nodes than the family promises; the message names the shortfall."""


class DivergedError(FineGatesError):
    """Training diverged to NaN or infinity; the message says at which step, and no run folder was written."""


class EngineError(FineGatesError):
    """TensorRT refuses a graph or cannot build an engine from it; the message names the node."""


class OutputError(FineGatesError):
    """The output cannot be written: it exists, the folder is read-only, or the disk is full."""


class MeasurementError(FineGatesError):
    """The measuring process died; the message says how."""


class MissingExtraError(FineGatesError):
    """A package is missing; the message names the extra that installs it."""


def missing_extra(package: str, extra: str) -> MissingExtraError:
    """The error for a package that is not installed.

    Args:
        package: import name of what is missing.
        extra: the extra of this distribution that installs it.
    """
    return MissingExtraError(f"{package} is not installed. Run: pip install 'finegates-export[{extra}]'")
