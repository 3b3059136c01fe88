"""Loading a bundle for prediction or text generation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from finegates_export.common.files import JsonObject
from finegates_export.common.graph_forms import GRAPH_FILES, Form
from finegates_export.common.options import as_path
from finegates_export.common.options import check as check_option
from finegates_export.common.tasks import PIXELS, Task, task_of
from finegates_export.common.tasks.pooling import Pooling
from finegates_export.errors import InputError
from finegates_export.runtime.batching import Buckets
from finegates_export.runtime.bundle_files import TOKENIZER_JSON, read_bundle, text_inputs
from finegates_export.runtime.chat import ChatTemplate
from finegates_export.runtime.decoding import Decoder
from finegates_export.runtime.fitting import check_fit, check_length
from finegates_export.runtime.generator import TextGenerator
from finegates_export.runtime.limits import Limits
from finegates_export.runtime.openvino_session import Precision
from finegates_export.runtime.predictor import Predictor, Reader
from finegates_export.runtime.prompts import PromptReader
from finegates_export.runtime.reading import ImageReader, TextReader
from finegates_export.runtime.reloading import Recipe
from finegates_export.runtime.runtimes import Opened, Runtime, Wanted, open_graph
from finegates_export.runtime.session import SessionOptions

if TYPE_CHECKING:
    from tokenizers import Tokenizer

QUOTED = 160
"""Most characters of another library's message."""
Lengths = int | Sequence[int] | npt.NDArray[np.integer[Any]] | None
"""Buckets as a user gives them."""


def load(
    bundle: str | Path,
    *,
    form: Form = "float",
    buckets: Lengths = None,
    runtime: Runtime | None = None,
    precision: Precision = "auto",
    provider: str = "cpu",
    threads: int | None = None,
    streams: int | None = None,
    spinning: bool = True,
    arena: bool = True,
    key: str | Path | bytes | None = None,
    check: bool = True,
) -> Predictor | TextGenerator:
    """Load a bundle.

    Args:
        bundle: the folder that `finegates-export --out FOLDER/` wrote.
        form: which of its graphs: `float`, `int8` or `int4`.
        buckets: the lengths that texts are padded to, for a server that needs few shapes: a list, or a number to use
            multiples of. The model's maximum is always included. None pads to the longest text of each call. Images
            have one size anyway; text generation takes no buckets.
        runtime: `onnxruntime`, `openvino`, or `auto` for the one that a short measurement on this machine finds faster;
            None for OpenVINO if the bundle was exported for it, else onnxruntime.
        precision: what OpenVINO computes in: `float32`, `bfloat16`, or `auto` for bfloat16 if the bundle was proven in
            it and the processor computes in it.
        provider: what runs the graph: `cpu`, `cuda`, `tensorrt`, or another provider's onnxruntime name.
        threads: CPU threads; None for the runtime's choice.
        streams: calls that OpenVINO runs at the same time, sharing the threads; None for one.
        spinning: whether idle threads spin, which keeps their core busy.
        arena: whether to keep a call's memory for the next call.
        key: the public key that must have signed the bundle, as a PEM file or its content; None asks for no signature.
        check: whether to run the bundle's check rows; what passed with this onnxruntime on this machine is noted in the
            user's cache folder and not run again.

    Returns:
        a `TextGenerator` for the task text-generation, otherwise a `Predictor`.

    Raises:
        ValueError: no such form, or impossible buckets or threads.
        InputError: not a bundle, not signed by that key, a bundle without that form, a file of it is missing, was
            changed or is not listed, its parts do not belong together, or onnxruntime is too old,
            cannot read the graph, or computes it otherwise than at the export.
        MissingExtraError: the runtime is not installed, or cryptography for a key.
        UnsupportedError: an unknown task, a missing provider, or a precision that the bundle was not proven in.
    """
    check_option(form in GRAPH_FILES, "form", f"{form!r} is not one of {', '.join(GRAPH_FILES)}")
    options = SessionOptions(provider=provider, threads=threads, spinning=spinning, arena=arena)
    lengths = _lengths(buckets)
    folder = as_path(bundle)
    info = read_bundle(folder, key)
    task = task_of(info["task"])
    check_option(not task.generates or buckets is None, "buckets", f"a bundle for {task.name} takes none: texts grow")
    opened = open_graph(folder, info, Wanted(form, runtime, precision, streams), options)
    session, graph = opened.session, opened.graph
    loaded: Predictor | TextGenerator
    if task.generates:
        with one_error(folder):
            loaded = _generator(folder, info, opened)
    else:
        with one_error(folder):
            check_fit(graph, session, task, info["labels"])
            pooling = Pooling(info["pooling"], bool(info.get("normalize"))) if info.get("pooling") else None
            decoder = Decoder(task, tuple(info["labels"]), pooling)
            reader = make_reader(folder, info, {one.name: one.shape for one in session.get_inputs()}, decoder.task)
        chosen = None if isinstance(reader, ImageReader) else lengths
        loaded = Predictor(session, reader, decoder, Buckets(chosen, info["max_length"]))
    if check:
        opened.check(folder, info, form, options)
    known = {**options.to_json(), "form": form, "buckets": lengths, "key": _absolute(key), "check": check}
    known |= {"runtime": opened.runtime, "precision": precision, "streams": streams}
    loaded.runtime = opened.told
    loaded.recipe = Recipe.of(load, folder, **known)
    return loaded


def _absolute(key: str | Path | bytes | None) -> Path | bytes | None:
    """A key as another process finds it."""
    return key if isinstance(key, bytes) or key is None else as_path(key).absolute()


@contextmanager
def one_error(folder: Path) -> Iterator[None]:
    """What a damaged file makes its reader raise becomes one error, whatever the file and the reader.

    Args:
        folder: the bundle that is read.

    Raises:
        InputError: the block raised something else than an error of this library.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        told = " ".join(str(error).split())[:QUOTED]
        raise InputError(f"bundle {folder} is damaged ({type(error).__name__}: {told}); export again") from error


def _lengths(buckets: Lengths) -> int | tuple[int, ...] | None:
    """The given buckets, with numpy numbers as Python numbers."""
    if buckets is None:
        return None
    given = np.asarray(buckets)
    whole = given.dtype.kind in "iu" or not given.size
    check_option(
        whole and given.ndim <= 1, "buckets", f"must be a whole number or a list of whole numbers, got {buckets!r}"
    )
    return tuple(given.tolist()) if given.ndim else int(given)


def _generator(folder: Path, info: JsonObject, opened: Opened) -> TextGenerator:
    tokenizer, session = read_tokenizer(folder, info), opened.cached()
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
    how = text_inputs(folder, info, tokenizer)
    check_length(folder, how)
    return TextReader(tokenizer, list(inputs), task, how)


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
    except BaseException as error:  # tokenizers raises plain Exception, and for some files its Rust panics
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
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
