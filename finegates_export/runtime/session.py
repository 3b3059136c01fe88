"""An onnxruntime session for a bundle's graph: on the requested provider, or none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from finegates_export.common.options import Options, check
from finegates_export.common.tasks.arrays import Array
from finegates_export.errors import InputError, UnsupportedError, missing_extra

if TYPE_CHECKING:
    from onnxruntime import IOBinding, ModelMetadata

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
"""Short names of providers, and onnxruntime's names."""
CPU = PROVIDERS["cpu"]
BEHIND = {PROVIDERS["tensorrt"]: (PROVIDERS["cuda"], CPU), CPU: ()}
"""Providers that run the operators which a provider lacks; for all others, the CPU."""
QUOTED = 300
"""Most characters of onnxruntime's message."""
UNKNOWN_OPERATOR = re.compile(r"(?P<domain>[\w.]*):(?P<operator>\w+)\(-?\d+\) is not a registered function/op")


class GraphValue(Protocol):
    """An input or output of a graph."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def shape(self) -> list[Any]:
        """Its sizes: numbers, and the names of free ones."""


class Session(Protocol):
    """A graph that is ready to run, in whichever runtime."""

    def get_inputs(self) -> Sequence[GraphValue]:
        """The graph's inputs."""

    def get_outputs(self) -> Sequence[GraphValue]:
        """The graph's outputs."""

    def get_providers(self) -> list[str]:
        """What runs it: onnxruntime's names of providers, or `OpenVINO`."""

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Array]) -> list[Array]:
        """One call: the outputs of these names, or all of them."""


class OrtSession(Session, Protocol):
    """What is used of `onnxruntime.InferenceSession`."""

    def get_modelmeta(self) -> ModelMetadata:
        """What the file says of itself."""

    def io_binding(self) -> IOBinding:
        """Inputs and outputs that stay in onnxruntime's memory."""

    def run_with_iobinding(self, iobinding: IOBinding) -> None:
        """One call with bound inputs and outputs."""


@dataclass(frozen=True, kw_only=True)
class SessionOptions(Options):
    """Options of an onnxruntime session."""

    provider: str = "cpu"
    """What runs the graph: `cpu`, `cuda`, `tensorrt`, or another provider's onnxruntime name."""
    threads: int | None = None
    """CPU threads; None for onnxruntime's choice, one per core."""
    spinning: bool = True
    """Whether idle threads spin: faster for one model alone, wasteful next to others."""
    arena: bool = True
    """Whether to keep a call's memory for the next call: faster, but memory stays at that of the largest call."""

    def __post_init__(self) -> None:
        whole = self.threads is None or (isinstance(self.threads, int) and self.threads > 0)
        check(whole, "threads", f"must be positive, got {self.threads}")
        named = isinstance(self.provider, str) and bool(self.provider)
        told = f"must be one of {', '.join(PROVIDERS)}, or another provider's onnxruntime name, got {self.provider!r}"
        check(named, "provider", told)


def open_session(
    graph: Path, options: SessionOptions | None = None, *, optimize: bool = True, rest: bool = False
) -> OrtSession:
    """Load a graph; every onnxruntime session is opened here.

    Args:
        graph: the file.
        options: where and how to run it.
        optimize: False runs the graph as it is written.
        rest: let threads sleep between runs; otherwise they spin for a while, into another session's turn.

    Raises:
        InputError: onnxruntime cannot read the graph.
        MissingExtraError: onnxruntime is not installed.
        UnsupportedError: the provider is missing or does not start.
    """
    onnxruntime_version()
    import onnxruntime

    options = options or SessionOptions()
    providers = chosen_providers(options.provider)
    settings = onnxruntime.SessionOptions()
    settings.enable_cpu_mem_arena = settings.enable_mem_pattern = options.arena
    settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(options.spinning)))
    if options.threads:
        settings.intra_op_num_threads = options.threads
    if not optimize:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if rest:
        settings.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session: OrtSession = onnxruntime.InferenceSession(graph, settings, providers=providers)
    except Exception as error:  # onnxruntime's errors have no narrower common root
        raise _not_read(graph, error, onnxruntime.__version__) from error
    _check_started(session, providers[0])
    return session


def onnxruntime_version() -> str:
    """The version of the onnxruntime that is installed.

    Raises:
        MissingExtraError: none is.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_extra("onnxruntime", "cpu") from error

    version: str = onnxruntime.__version__
    return version


def run_session(session: Session, names: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
    """One call of a graph.

    Args:
        session: of the graph.
        names: the outputs to return.
        feed: its inputs, by name.

    Raises:
        InputError: onnxruntime fails on them.
    """
    try:
        return session.run(names, feed)
    except Exception as error:  # onnxruntime's errors have no narrower common root
        shapes = ", ".join(f"{name} {value.shape}" for name, value in feed.items())
        told = " ".join(str(error).split())[:QUOTED]
        raise InputError(
            f"onnxruntime fails on a call of {shapes}: {told}; pass fewer or shorter inputs, or export again"
        ) from error


def chosen_providers(provider: str) -> list[str]:
    """The onnxruntime names of a provider and of its fallbacks.

    Args:
        provider: as in `SessionOptions`.

    Raises:
        UnsupportedError: this onnxruntime lacks it.
    """
    import onnxruntime

    wanted = PROVIDERS.get(provider, provider)
    offered = onnxruntime.get_available_providers()
    if wanted not in offered:
        extra = " Run: pip install 'finegates-export[gpu]'" if wanted in PROVIDERS.values() else ""
        raise UnsupportedError(f"provider: this onnxruntime lacks {wanted}; it has {', '.join(offered)}.{extra}")
    return [wanted, *(name for name in BEHIND.get(wanted, (CPU,)) if name in offered)]


def _check_started(session: Session, wanted: str) -> None:
    """Make sure that a session runs on the requested provider.

    onnxruntime only logs a provider that does not start, and would run the graph on the CPU.

    Raises:
        UnsupportedError: it runs on another provider.
    """
    if wanted not in session.get_providers():
        raise UnsupportedError(
            f"provider: {wanted} did not start on this machine, and onnxruntime would fall back to "
            f"{', '.join(session.get_providers())}; see its log, or use provider='cpu'"
        )


def _not_read(graph: Path, error: Exception, version: str) -> InputError:
    """The error for a graph that onnxruntime cannot open.

    Args:
        graph: the file.
        error: onnxruntime's own.
        version: onnxruntime's.
    """
    unknown = UNKNOWN_OPERATOR.search(str(error))
    if unknown:
        domain = unknown["domain"] or "ai.onnx"
        return InputError(
            f"{graph} has the operator {unknown['operator']} of {domain}, which onnxruntime {version} does not "
            "support; update onnxruntime, or export the run again"
        )
    return InputError(f"onnxruntime {version} cannot read {graph}: {' '.join(str(error).split())}; export again")
