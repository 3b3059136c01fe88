"""Prediction from a bundle: texts or images in, answers out.

Shapes: B rows, C labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from finegates_export.common.options import check
from finegates_export.common.tasks import LOGITS
from finegates_export.common.tasks.answers import Result
from finegates_export.common.tasks.arrays import Outputs
from finegates_export.errors import InputError
from finegates_export.runtime.batching import BATCHES_TOGETHER, Buckets, by_length, in_order
from finegates_export.runtime.decoding import Decoder
from finegates_export.runtime.fitting import check_answers
from finegates_export.runtime.reading import ImageReader, Row, TextReader
from finegates_export.runtime.reloading import Reloadable
from finegates_export.runtime.session import Session, run_session
from finegates_export.runtime.texts import check_no_table

Reader = TextReader | ImageReader


class Predictor(Reloadable):
    """A loaded bundle. Safe to call from several threads.

    Args:
        session: an onnxruntime session.
        reader: makes the graph's inputs.
        decoder: reads its outputs.
        buckets: the sequence lengths of its calls.
    """

    def __init__(self, session: Session, reader: Reader, decoder: Decoder, buckets: Buckets) -> None:
        self._session, self._reader, self._decoder, self._buckets = session, reader, decoder, buckets
        self._outputs = [value.name for value in session.get_outputs()]
        self.task = decoder.task.name
        """The task that the model was trained for."""
        self.labels = decoder.labels
        """Label names in the order of the logits; empty for tasks without."""
        self.providers: list[str] = session.get_providers()
        """The providers that really run the graph."""
        self.runtime = ""
        """What runs the graph, in words; where that was measured, how fast it is here."""

    def logits(self, texts: Iterable[object]) -> npt.NDArray[np.float32]:
        """Raw outputs, shape (B, C), for tasks with a label or score per row; one call of the model.

        Raises:
            InputError: the graph has no logits, or an input is not what the task reads.
        """
        if LOGITS not in self._outputs:
            raise InputError(f"a graph for {self.task} has no logits; it returns {', '.join(self._outputs)}")
        given = _listed(texts)
        if not given:
            return np.zeros((0, max(1, len(self.labels))), np.float32)
        rows = self._reader.rows(given)
        return np.asarray(self._run(rows)[LOGITS], np.float32)

    def predict(
        self, inputs: Iterable[object], *, batch_size: int = 32, sort: bool = True, call_tokens: int | None = None
    ) -> list[Any]:
        """One answer per input, in the order of the inputs.

        Args:
            inputs: texts; pairs of texts if the model was trained on pairs; pairs (question, text) for question
                answering, (query, passage) for reranking; texts or lists of words for token classification; for images
                float arrays of shape (channels, height, width), as made by the base's image processor.
            batch_size: maximum rows per call of the model; a long text in question answering takes several rows.
            sort: group rows of similar length into one call, which never pads more; False keeps the given order.
            call_tokens: split sorted rows into more calls if each saves more padding than this many tokens; None makes
                as few calls as possible.

        Returns:
            A `Prediction` for classification, image classification, regression and reranking, a `LabelSet` for
            multi-label, a `TaggedText` for token classification, with its entities and its words (fewer than the
            given ones if some have no token or are truncated: each has its `number`), an `Answer` for question
            answering, a vector for an embedding, a matrix with a row for every token for feature extraction.

        Raises:
            InputError: an input is not what the task reads, or the model's answer is no number.
        """
        given = _listed(inputs)
        check(batch_size > 0, "batch_size", f"must be positive, got {batch_size}")
        check(call_tokens is None or call_tokens >= 0, "call_tokens", f"must not be negative, got {call_tokens}")
        results: list[Result] = []
        together = batch_size * BATCHES_TOGETHER
        for start in range(0, len(given), together):
            rows = self._reader.rows(given[start : start + together], start)
            lengths = [self._buckets.padded(row.length) for row in rows]
            found: dict[int, Any] = {}
            batches = by_length(lengths, batch_size, call_tokens) if sort else in_order(lengths, batch_size)
            for batch in batches:
                chosen = [rows[number] for number in batch]
                found.update(zip(batch, self._decoder.decode(self._run(chosen), chosen), strict=True))
            results += self._decoder.join([found[number] for number in range(len(rows))], rows)
        return results

    def generate(self, prompts: object, *how: object, **more: object) -> NoReturn:
        """Only available for text generation.

        Raises:
            InputError: always.
        """
        _ = prompts, how, more
        raise InputError(
            f"a bundle for {self.task} generates no text; call predict, or load a bundle for text-generation"
        )

    stream = generate

    def _run(self, rows: Sequence[Row]) -> Outputs:
        longest = max(1, *(row.length for row in rows))  # a text may have no token, but a graph needs at least one
        feed = self._reader.feed(rows, self._buckets.padded(longest))
        outputs = dict(zip(self._outputs, run_session(self._session, self._outputs, feed), strict=True))
        check_answers(outputs, rows, self._decoder.task, self.labels)
        return outputs


def _listed(inputs: object) -> list[object]:
    """Inputs as a list.

    Raises:
        InputError: a single input instead of a list, or something that is not a list.
    """
    if isinstance(inputs, (str, bytes)):
        raise InputError("predict takes a list of texts; wrap a single one: predict([text])")
    if isinstance(inputs, Mapping) or not isinstance(inputs, Iterable):
        raise InputError(f"predict takes a list of inputs, got {type(inputs).__name__}")
    check_no_table(inputs, "predict")
    return list(inputs)
