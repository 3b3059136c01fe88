"""A bundle as something that predicts: texts or images in, answers out.

Shapes: B rows, C labels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finegates_export.errors import InputError, missing_extra
from finegates_export.files import sha256_file
from finegates_export.graph_forms import GRAPH_FILES, Form
from finegates_export.options import check
from finegates_export.pooling import Pooling
from finegates_export.runtime.batching import BATCHES_TOGETHER, Buckets, by_length, in_order
from finegates_export.runtime.decoding import Decoder
from finegates_export.runtime.predictions import Result
from finegates_export.runtime.providers import PROVIDERS, Provider, check_provider, session_providers
from finegates_export.runtime.reading import ImageReader, Row, TextReader
from finegates_export.tasks import LOGITS, PIXELS, task_of

BUNDLE_JSON = "bundle.json"


class Predictor:
    """A loaded bundle. Safe to call from several threads.

    Args:
        session: an onnxruntime session.
        reader: makes the graph's inputs.
        decoder: reads its outputs.
        buckets: the lengths that its calls have.
    """

    def __init__(self, session: Any, reader: TextReader | ImageReader, decoder: Decoder, buckets: Buckets) -> None:
        self._session, self._reader, self._decoder, self._buckets = session, reader, decoder, buckets
        self._outputs = [value.name for value in session.get_outputs()]
        self.task = decoder.task.name
        """What was trained."""
        self.labels = decoder.labels
        """Label names in the order of the logits; empty for tasks without."""
        self.providers: list[str] = session.get_providers()
        """The providers onnxruntime really uses."""

    def logits(self, texts: Sequence[Any]) -> npt.NDArray[np.float32]:
        """Raw outputs of tasks with a label or score per row, shape (B, C); one call of the model.

        Raises:
            InputError: the graph has no logits, or an input is not what it reads.
        """
        if LOGITS not in self._outputs:
            raise InputError(f"a graph for {self.task} has no logits; it returns {', '.join(self._outputs)}")
        if not len(texts):
            return np.zeros((0, max(1, len(self.labels))), np.float32)
        rows = self._reader.rows(texts)
        return np.asarray(self._run(rows)[LOGITS], np.float32)

    def predict(self, inputs: Sequence[Any], *, batch_size: int = 32, sort: bool = True) -> list[Any]:
        """An answer for every input, in the order of the inputs.

        Args:
            inputs: texts; pairs of texts where the model was trained on pairs; pairs (question, text) for question
                answering; texts or lists of words for token classification; for images float arrays of shape
                (channels, height, width), as the base's image processor makes them.
            batch_size: rows a call of the model; a long text that is asked about takes several.
            sort: put rows of like length into one call: fewer tokens are padded, never more. False: as they come.

        Returns:
            A `Prediction` for classification, image classification and regression, a `LabelSet` for multi-label, a
            tuple of `Word` for token classification, an `Answer` for question answering, a vector for an embedding,
            a matrix with a row for every token for feature extraction.

        Raises:
            InputError: an input is not what the task reads.
        """
        if isinstance(inputs, str):
            raise InputError("predict takes a list of texts; wrap a single one: predict([text])")
        check(batch_size > 0, "batch_size", f"must be positive, got {batch_size}")
        results: list[Result] = []
        together = batch_size * BATCHES_TOGETHER
        for start in range(0, len(inputs), together):
            rows = self._reader.rows(inputs[start : start + together])
            lengths = [self._buckets.padded(row.length) for row in rows]
            found: dict[int, Any] = {}
            for batch in (by_length if sort else in_order)(lengths, batch_size):
                chosen = [rows[number] for number in batch]
                found.update(zip(batch, self._decoder.decode(self._run(chosen), chosen), strict=True))
            results += self._decoder.join([found[number] for number in range(len(rows))], rows)
        return results

    def _run(self, rows: Sequence[Row]) -> dict[str, npt.NDArray[Any]]:
        feed = self._reader.feed(rows, self._buckets.padded(max(row.length for row in rows)))
        return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))


def load(
    bundle: str | Path,
    *,
    form: Form = "float",
    threads: int | None = None,
    buckets: int | Sequence[int] | None = None,
    provider: Provider = "cpu",
) -> Predictor:
    """Load a bundle.

    Args:
        bundle: the folder that `finegates-export --out FOLDER/` wrote.
        form: which of its graphs: `float`, `int8` or `int4`.
        threads: processor threads; onnxruntime's choice where None.
        buckets: the lengths that texts are padded to, for a server that wants few shapes: a number whose multiples they
            are, or the lengths themselves. The longest that the model reads is always one. None: each call is as long
            as its longest text. Images have one size anyway.
        provider: what runs the graph: `cpu`, `cuda` or `tensorrt`.

    Raises:
        ValueError: no such form or provider, or impossible buckets.
        InputError: not a bundle, a bundle without that form, a file of it is missing or was changed, or the provider
            is not there.
        MissingExtraError: onnxruntime is not installed.
        UnsupportedError: a task that this version does not know.
    """
    check(form in GRAPH_FILES, "form", f"{form!r} is not one of {', '.join(GRAPH_FILES)}")
    check(provider in PROVIDERS, "provider", f"{provider!r} is not one of {', '.join(PROVIDERS)}")
    folder = Path(bundle)
    info = read_bundle(folder)
    graphs = [name for name in info["graphs"] if Path(name).name == GRAPH_FILES[form]]
    if not graphs:
        raise InputError(f"{folder} holds no {form} graph; export it with --quantize {form}")
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_extra("onnxruntime", "cpu") from error

    settings = onnxruntime.SessionOptions()
    if threads:
        settings.intra_op_num_threads = threads
    wanted = session_providers(onnxruntime, provider)
    session = onnxruntime.InferenceSession(folder / graphs[0], settings, providers=wanted)
    check_provider(session, provider)
    pooling = Pooling(info["pooling"], info["normalize"]) if info.get("pooling") else None
    decoder = Decoder(task_of(info["task"]), tuple(info["labels"]), pooling)
    reader = _reader(folder, info, session, decoder)
    chosen = None if isinstance(reader, ImageReader) else buckets
    lengths = Buckets(tuple(chosen) if isinstance(chosen, Sequence) else chosen, info["max_length"])
    return Predictor(session, reader, decoder, lengths)


def read_bundle(folder: Path) -> dict[str, Any]:
    """The content of `bundle.json`, every file checked against its hash.

    Raises:
        InputError: not a bundle, or a file of it is missing or was changed.
    """
    path = folder / BUNDLE_JSON
    if not path.is_file():
        raise InputError(f"{folder} is not a bundle: it holds no {BUNDLE_JSON}")
    try:
        info: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files = info["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); export again") from error
    for name, digest in files.items():
        if not (folder / name).is_file():
            raise InputError(f"bundle {folder} is incomplete: {name} is missing; copy it whole or export again")
        if sha256_file(folder / name) != digest:
            raise InputError(f"{folder / name} was changed after the export (its sha256 differs); export again")
    return info


def _reader(folder: Path, info: dict[str, Any], session: Any, decoder: Decoder) -> TextReader | ImageReader:
    inputs = {value.name: value.shape for value in session.get_inputs()}
    if PIXELS in inputs:
        return ImageReader(tuple(inputs[PIXELS][1:]))
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    pad_id = tokenizer.token_to_id(_pad_token(folder)) or 0
    return TextReader(tokenizer, list(inputs), decoder.task.unit, info["max_length"], pad_id)


def _pad_token(folder: Path) -> str:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return "[PAD]"
    token = json.loads(path.read_text(encoding="utf-8")).get("pad_token") or "[PAD]"
    return str(token["content"] if isinstance(token, dict) else token)
