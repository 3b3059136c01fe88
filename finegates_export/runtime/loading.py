"""Loading a bundle for prediction or text generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from finegates_export.common.files import JsonObject
from finegates_export.common.graph_forms import GRAPH_FILES, Form
from finegates_export.common.options import as_path, check
from finegates_export.common.tasks import PIXELS, Task, task_of
from finegates_export.common.tasks.pooling import Pooling
from finegates_export.errors import InputError
from finegates_export.runtime.batching import Buckets
from finegates_export.runtime.bundle_files import TOKENIZER_JSON, graph_in, read_bundle, text_inputs
from finegates_export.runtime.chat import ChatTemplate
from finegates_export.runtime.decoding import Decoder
from finegates_export.runtime.generator import TextGenerator
from finegates_export.runtime.limits import Limits
from finegates_export.runtime.predictor import Predictor, Reader
from finegates_export.runtime.prompts import PromptReader
from finegates_export.runtime.reading import ImageReader, TextReader
from finegates_export.runtime.session import Session, SessionOptions, open_session

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Lengths = int | Sequence[int] | npt.NDArray[np.integer[Any]] | None
"""Buckets as a user gives them."""


def load(
    bundle: str | Path,
    *,
    form: Form = "float",
    buckets: Lengths = None,
    provider: str = "cpu",
    threads: int | None = None,
    spinning: bool = True,
    arena: bool = True,
) -> Predictor | TextGenerator:
    """Load a bundle.

    Args:
        bundle: the folder that `finegates-export --out FOLDER/` wrote.
        form: which of its graphs: `float`, `int8` or `int4`.
        buckets: the lengths that texts are padded to, for a server that needs few shapes: a list, or a number to use
            multiples of. The model's maximum is always included. None pads to the longest text of each call. Images
            have one size anyway; text generation takes no buckets.
        provider: what runs the graph: `cpu`, `cuda`, `tensorrt`, or another provider's onnxruntime name.
        threads: CPU threads; None for onnxruntime's choice.
        spinning: whether idle threads spin, which keeps their core busy.
        arena: whether to keep a call's memory for the next call.

    Returns:
        a `TextGenerator` for the task text-generation, otherwise a `Predictor`.

    Raises:
        ValueError: no such form, or impossible buckets or threads.
        InputError: not a bundle, a bundle without that form, a file of it is missing or was changed, the tokenizer
            does not match the graph, or onnxruntime cannot read the graph.
        MissingExtraError: onnxruntime is not installed.
        UnsupportedError: an unknown task, or a missing provider.
    """
    check(form in GRAPH_FILES, "form", f"{form!r} is not one of {', '.join(GRAPH_FILES)}")
    options = SessionOptions(provider=provider, threads=threads, spinning=spinning, arena=arena)
    folder = as_path(bundle)
    info = read_bundle(folder)
    graph = graph_in(folder, info, form)
    task = task_of(info["task"])
    check(not task.generates or buckets is None, "buckets", f"a bundle for {task.name} takes none: texts grow")
    session = open_session(graph, options)
    if task.generates:
        return _generator(folder, info, session)
    pooling = Pooling(info["pooling"], info["normalize"]) if info.get("pooling") else None
    decoder = Decoder(task, tuple(info["labels"]), pooling)
    reader = make_reader(folder, info, {value.name: value.shape for value in session.get_inputs()}, decoder.task)
    chosen = None if isinstance(reader, ImageReader) else buckets
    return Predictor(session, reader, decoder, Buckets(_lengths(chosen), info["max_length"]))


def _lengths(buckets: Lengths) -> int | tuple[int, ...] | None:
    """The given buckets, with numpy numbers as Python numbers."""
    if buckets is None:
        return None
    given = np.asarray(buckets)
    whole = given.dtype.kind in "iu" or not given.size
    check(whole and given.ndim <= 1, "buckets", f"must be a whole number or a list of whole numbers, got {buckets!r}")
    return tuple(given.tolist()) if given.ndim else int(given)


def _generator(folder: Path, info: JsonObject, session: Session) -> TextGenerator:
    tokenizer = read_tokenizer(folder, info)
    limits = Limits.of(folder, info, tokenizer)
    return TextGenerator(session, prompt_reader(folder, info, tokenizer), limits)


def prompt_reader(folder: Path, info: JsonObject, tokenizer: Tokenizer) -> PromptReader:
    """Reads the prompts of a bundle for text generation.

    Args:
        folder: the bundle, or what will be one.
        info: its `bundle.json`.
        tokenizer: its tokenizer.
    """
    return PromptReader(tokenizer, ChatTemplate.of(folder), text_inputs(folder, info, tokenizer))


def make_reader(folder: Path, info: JsonObject, inputs: Mapping[str, Sequence[Any]], task: Task) -> Reader:
    """Reads the inputs of a bundle that does not generate.

    Args:
        folder: the bundle, or what will be one.
        info: its `bundle.json`.
        inputs: sizes of the graph's inputs, by name.
        task: the graph's task.

    Raises:
        InputError: the tokenizer does not match the graph.
    """
    if PIXELS in inputs:
        return ImageReader(tuple(inputs[PIXELS][1:]))
    tokenizer = read_tokenizer(folder, info)
    return TextReader(tokenizer, list(inputs), task, text_inputs(folder, info, tokenizer))


def read_tokenizer(folder: Path, info: JsonObject) -> Tokenizer:
    """A bundle's tokenizer.

    Args:
        folder: the bundle, or what will be one.
        info: its `bundle.json`.

    Raises:
        InputError: there is none, it is damaged, or it has ids without an embedding.
    """
    from tokenizers import Tokenizer

    file = folder / TOKENIZER_JSON
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises plain Exception
        raise InputError(f"{file} cannot be read as a tokenizer ({error}); export again") from error
    _check_vocabulary(tokenizer, info.get("vocabulary"), folder)
    return tokenizer


def _check_vocabulary(tokenizer: Tokenizer, known: int | None, folder: Path) -> None:
    """Fail if the tokenizer has ids without an embedding in the graph; old bundles do not say how many there are."""
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if known is not None and largest >= known:
        raise InputError(
            f"the tokenizer of {folder} has ids up to {largest}, but the graph has {known} embeddings: they do "
            "not belong together; use the tokenizer of the run, or export again"
        )
