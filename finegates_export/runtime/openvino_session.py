"""An OpenVINO session for a bundle's IR, called as an onnxruntime session is.

One compiled model serves many threads: each call takes an idle infer request, or makes one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import Empty, LifoQueue
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from finegates_export.common.files import JsonObject
from finegates_export.common.options import Options, check
from finegates_export.common.tasks.arrays import Array
from finegates_export.errors import InputError, UnsupportedError, missing_extra

if TYPE_CHECKING:
    import openvino

Computed = Literal["float32", "bfloat16"]
Precision = Literal["auto", "float32", "bfloat16"]
HINTS: dict[Computed, str] = {"float32": "f32", "bfloat16": "bf16"}
"""OpenVINO's names of precisions."""
DEVICE = "CPU"
PROVIDER = "OpenVINO"
"""What `providers` of a predictor names."""


@dataclass(frozen=True, kw_only=True)
class OpenVinoOptions(Options):
    """Options of an OpenVINO session."""

    precision: Computed = "float32"
    """What products are computed in; sums, norms and softmax stay in float32 where its kernels keep them so."""
    threads: int | None = None
    """CPU threads; None for one per core."""
    streams: int | None = None
    """Calls that run at the same time, sharing the threads; None for one, which answers a single call soonest."""

    def __post_init__(self) -> None:
        check(self.precision in HINTS, "precision", f"{self.precision!r} is not one of {', '.join(HINTS)}")
        for name in ("threads", "streams"):
            given = getattr(self, name)
            whole = given is None or (isinstance(given, int) and given > 0)
            check(whole, name, f"must be positive, got {given!r}")


@dataclass(frozen=True)
class OpenVinoGraph:
    """A bundle's IR."""

    path: Path
    """The XML file."""
    weights: str
    """The type of its weights: float32 or float16."""
    precisions: tuple[Computed, ...]
    """What it was proven in when it was exported."""

    @classmethod
    def of(cls, folder: Path, told: JsonObject) -> OpenVinoGraph:
        """The IR that a bundle's record tells of.

        Args:
            folder: the bundle.
            told: the field `openvino` of its `bundle.json`.

        Raises:
            InputError: the field is damaged.
        """
        try:
            path, weights, precisions = folder / told["graph"], told["weights"], tuple(told["precisions"])
        except (KeyError, TypeError) as error:
            raise InputError(f"{folder}: openvino in bundle.json is damaged ({error}); export again") from error
        if not precisions or not set(precisions) <= set(HINTS):
            raise InputError(f"{folder}: bundle.json names the precisions {precisions}; known: {', '.join(HINTS)}")
        return cls(path, weights, precisions)

    def precision(self, wanted: Precision) -> Computed:
        """The precision to compute in on this machine.

        Args:
            wanted: by the user; `auto` is bfloat16 where the IR was proven in it and the processor computes in it.

        Raises:
            UnsupportedError: the IR was not proven in it.
        """
        if wanted == "auto":
            return "bfloat16" if "bfloat16" in self.precisions and has_bfloat16() else "float32"
        if wanted not in self.precisions:
            raise UnsupportedError(
                f"precision: {self.path} was proven in {', '.join(self.precisions)}, not in {wanted}; export on a "
                "processor that computes in it, or use precision='auto'"
            )
        return wanted


@dataclass(frozen=True)
class Axis:
    """An input or output of an IR; see `session.GraphValue`."""

    name: str
    shape: list[Any]
    """Sizes; None for free ones."""


class OpenVinoSession:
    """See `session.Session`.

    Args:
        compiled: the compiled model.
        precision: what it computes in.
    """

    def __init__(self, compiled: openvino.CompiledModel, precision: str) -> None:
        self._compiled = compiled
        self._idle: LifoQueue[openvino.InferRequest] = LifoQueue()
        self._inputs = [_axis(port) for port in compiled.inputs]
        self._outputs = [_axis(port) for port in compiled.outputs]
        self._places = {value.name: number for number, value in enumerate(self._outputs)}
        self.precision = precision

    def get_inputs(self) -> Sequence[Axis]:
        """The graph's inputs."""
        return self._inputs

    def get_outputs(self) -> Sequence[Axis]:
        """The graph's outputs."""
        return self._outputs

    def get_providers(self) -> list[str]:
        """What runs the graph."""
        return [PROVIDER]

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Array]) -> list[Array]:
        """One call: copies of the outputs of these names, or of all of them."""
        names = [value.name for value in self._outputs] if output_names is None else output_names
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        try:
            request.infer(dict(input_feed), share_inputs=True)
            return [np.array(request.get_output_tensor(self._places[name]).data) for name in names]
        finally:
            self._idle.put(request)


def open_openvino(ir: Path, options: OpenVinoOptions | None = None) -> OpenVinoSession:
    """Load an IR; every OpenVINO session is opened here.

    Args:
        ir: the XML file.
        options: how to run it.

    Raises:
        InputError: OpenVINO cannot read the IR.
        MissingExtraError: OpenVINO is not installed.
        UnsupportedError: the processor does not compute in bfloat16.
    """
    try:
        import openvino
    except ImportError as error:
        raise missing_extra("openvino", "openvino") from error

    options = options or OpenVinoOptions()
    if options.precision == "bfloat16" and not has_bfloat16():
        raise UnsupportedError(
            "precision: this processor does not compute in bfloat16 (no AVX-512 BF16 or AMX); use precision='float32' "
            "or 'auto'"
        )
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": HINTS[options.precision],
        "NUM_STREAMS": options.streams or 1,
    }
    if options.threads:
        settings["INFERENCE_NUM_THREADS"] = options.threads
    try:
        compiled = openvino.Core().compile_model(ir, DEVICE, settings)
    except RuntimeError as error:
        told = " ".join(str(error).split())
        raise InputError(f"OpenVINO {openvino.__version__} cannot read {ir}: {told}; export again") from error
    return OpenVinoSession(compiled, options.precision)


def openvino_version() -> str:
    """The version of the installed OpenVINO.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return version("openvino")
    except PackageNotFoundError as error:
        raise missing_extra("openvino", "openvino") from error


def has_bfloat16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this processor.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise missing_extra("openvino", "openvino") from error
    return "BF16" in openvino.Core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")


def _axis(port: openvino.ConstOutput) -> Axis:
    sizes = [size.get_length() if size.is_static else None for size in port.get_partial_shape()]
    return Axis(port.get_any_name(), sizes)
