"""Traces a torch model into an ONNX graph with named axes."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Collection, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from finegates_export.common.tasks import HIDDEN, LOGITS, PIXELS
from finegates_export.errors import UnsupportedError, missing_extra
from finegates_export.families.model_config import ModelConfig, image_shape
from finegates_export.graphs.activations import as_operators
from finegates_export.graphs.padding_mask import spread_padding
from finegates_export.graphs.products import mark_linears
from finegates_export.graphs.saving import strip
from finegates_export.graphs.values import VERSIONS

if TYPE_CHECKING:
    import onnx_ir

WRAPPED = "model."
"""The prefix of a model's module paths inside `WithHiddenState` and `WithCache`."""
AXES = ("batch", "sequence")
EXAMPLE_SHAPE = (2, 8)
Example = tuple[Tensor | tuple[Tensor, ...], ...]
"""Arguments of a traced module."""
Axes = tuple[object, ...]
"""The free axes of these arguments and their names, nested as the arguments are; see `torch.export`."""


class WithHiddenState(nn.Module):
    """A task model that returns its outputs and, after them, the encoder's last hidden state.

    Args:
        model: the task model.
        encoder: the module in it whose first output is the last hidden state.
        names: the inputs, in order.
        outputs: names of the model's outputs; the last hidden state is always returned, named or not.
    """

    def __init__(
        self, model: nn.Module, encoder: nn.Module, names: tuple[str, ...], outputs: tuple[str, ...] = (LOGITS,)
    ) -> None:
        super().__init__()
        self.model = model
        self.names = names
        self.outputs = (*(name for name in outputs if name != HIDDEN), HIDDEN)
        """The names of the outputs, in order."""
        self._encoder = [encoder]  # in a list: the encoder is already registered inside the model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs by `self.outputs`; the last hidden state has the shape (B, S, D)."""
        caught: list[Tensor] = []
        handle = self._encoder[0].register_forward_hook(lambda _module, _inputs, output: caught.append(output[0]))
        try:
            result = self.model(**dict(zip(self.names, inputs, strict=True)))
        finally:
            handle.remove()
        return (*(getattr(result, name) for name in self.outputs[:-1]), caught[0])


def write_graph(
    model: nn.Module,
    encoder: nn.Module,
    names: tuple[str, ...],
    opset: int,
    outputs: tuple[str, ...] = (LOGITS,),
    linears: Collection[str] = (),
) -> onnx_ir.Model:
    """Trace a model into an ONNX graph.

    Text inputs are int64 with the axes `batch` and `sequence`; images are float32 of the size that the model's config
    names, and only their `batch` is free.

    Args:
        model: a task model in evaluation mode.
        encoder: see `WithHiddenState`.
        names: the inputs, as the tokenizer or image processor names them.
        opset: ONNX opset version.
        outputs: what the graph returns, by the names of the model's outputs.
        linears: module paths of the linears whose products `linear_nodes` is to find.

    Returns:
        The graph; beside `outputs` it returns `last_hidden_state`. Plain operators only.
    """
    images = names == (PIXELS,)
    axes = {position: torch.export.Dim(name) for position, name in enumerate(AXES[:1] if images else AXES)}
    example = (_pixels(model),) if images else tuple(torch.ones(EXAMPLE_SHAPE, dtype=torch.int64) for _ in names)
    traced = WithHiddenState(model, encoder, names, outputs)
    return trace(traced, example, (tuple(axes for _ in names),), names, traced.outputs, opset, linears, WRAPPED)


def trace(
    model: nn.Module,
    example: Example,
    axes: Axes,
    names: tuple[str, ...],
    outputs: tuple[str, ...],
    opset: int,
    linears: Collection[str] = (),
    prefix: str = "",
) -> onnx_ir.Model:
    """Trace a module into a graph that reveals nothing of this machine.

    Args:
        model: the module.
        example: its arguments.
        axes: their free axes.
        names: the inputs, in order.
        outputs: the outputs, in order.
        opset: ONNX opset version.
        linears: see `write_graph`.
        prefix: the prefix of these paths in `model`.
    """
    try:
        import onnxscript  # noqa: F401  # torch's exporter needs it, but its own error is many lines long
    except ImportError as error:
        raise missing_extra("onnxscript", "export") from error
    with _quiet(), torch.no_grad(), as_operators(model), spread_padding(), _one_line():
        program = torch.onnx.export(
            model.eval(),
            example,
            dynamo=True,
            opset_version=opset,
            input_names=list(names),
            output_names=list(outputs),
            dynamic_shapes=axes,
            verbose=False,
        )
    assert program is not None  # noqa: S101  # for the type checker: dynamo=True always returns one
    graph = program.model
    mark_linears(graph, linears, prefix)
    strip(graph, keep_linears=True)
    return graph


def _pixels(model: nn.Module) -> Tensor:
    return torch.zeros(EXAMPLE_SHAPE[0], *image_shape(cast("ModelConfig", model.config)))


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Tell what stopped the tracer, which itself reports pages of frames.

    Raises:
        UnsupportedError: the tracer failed.
    """
    try:
        yield
    except torch.onnx.OnnxExporterError as error:
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        told = next(filter(None, map(str.strip, str(first).splitlines())), "no reason given")
        made_of = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "onnxscript"))
        raise UnsupportedError(
            f"the model cannot be traced with {made_of} ({type(first).__name__}: {told:.200}); {VERSIONS}"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks about deprecations and packages that it does not need."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(before)
