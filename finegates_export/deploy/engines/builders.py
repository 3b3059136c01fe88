"""The two packages that build engines share one interface; this module finds and distinguishes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from finegates_export.errors import EngineError, InputError, MissingExtraError

if TYPE_CHECKING:
    from tensorrt import OnnxParser

PACKAGES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
LOGGED = 5
"""Maximum number of builder messages that an error quotes."""


class Logger(Protocol):
    """A logger of the package."""

    errors: list[str]
    """The messages of failures."""


def find_builder(name: str) -> tuple[str, ModuleType]:
    """Find a package by name, or the first installed one for `auto`; returns its name and the module.

    Raises:
        MissingExtraError: it is not installed.
    """
    asked = list(PACKAGES) if name == "auto" else [name]
    for package in asked:
        try:
            return package, import_module(PACKAGES[package])
        except ImportError:
            continue
    raise MissingExtraError(
        f"{' or '.join(asked)} is not installed. Run: pip install 'finegates-export[tensorrt]' for tensorrt-rtx, which "
        "builds without a GPU, or install NVIDIA's TensorRT"
    )


def make_logger(trt: Any) -> Logger:
    """A logger of the package that collects messages instead of printing them."""

    class Kept(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: object, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Kept()


def refused(parser: OnnxParser, model: str) -> EngineError:
    """Why the parser refused a graph, node by node."""
    found = []
    for number in range(parser.num_errors):
        error = parser.get_error(number)
        node = error.node_name() or f"node {error.node()}"
        found.append(f"{error.node_operator() or 'operator unknown'} {node}: {_plain(error.desc())}")
    told = "; ".join(found) or "no reason given"
    return EngineError(f"TensorRT cannot read {model}: {told}. Export it with --target tensorrt")


def failed(errors: Sequence[str], model: str, what: str) -> EngineError:
    """Why the builder failed, in its own words, which name the layers."""
    told = "; ".join(map(_plain, errors[-LOGGED:])) or "no reason given"
    return EngineError(f"TensorRT cannot build an engine from {model} for {what}: {told}")


def _plain(message: str) -> str:
    """A message without TensorRT's source locations and remarks about a missing GPU."""
    return re.split(r"\s*\[?\w+\.cpp::", message)[0].strip()


def capability(trt: ModuleType, name: str) -> object:
    """A GPU generation by its name.

    Raises:
        InputError: the package does not know that name, or takes no names.
    """
    members = getattr(getattr(trt, "ComputeCapability", None), "__members__", {})
    known = [member.lower() for member in members if member.startswith("SM")]
    if not known:
        raise InputError("compute-capability: TensorRT builds only for this machine's GPU; use tensorrt-rtx")
    if name not in known:
        raise InputError(f"compute-capability: {name!r} is not one of {', '.join(known)}")
    return members[name.upper()]
