"""From texts or images to a graph's inputs, with only `tokenizers`.

Shapes: B rows, S tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from finegates_export.common.tasks import PIXELS, Task
from finegates_export.common.tasks.arrays import Array
from finegates_export.common.tasks.question_answering import CONTEXT
from finegates_export.common.text_inputs import TextInputs
from finegates_export.errors import InputError
from finegates_export.runtime.long_texts import LongTexts
from finegates_export.runtime.texts import Text, read_text, shortened

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

IDS, MASK, SEGMENTS = "input_ids", "attention_mask", "token_type_ids"
FIELDS = {IDS: "ids", SEGMENTS: "type_ids"}
"""The attribute of an encoding that holds an input, if its name differs."""
TOGETHER = 1 << 17
"""Characters that are tokenized together: a tokenizer takes some hundred bytes for each."""
WINDOW_SHARE = 4
"""Windows of a long text overlap by this share of their length."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of a row, and nothing of the tokens that it lost."""

    ids: list[int]
    type_ids: list[int]
    attention_mask: list[int]

    @classmethod
    def of(cls, encoding: Encoding) -> Tokens:
        """Those of a tokenizer's encoding."""
        return cls(encoding.ids, encoding.type_ids, encoding.attention_mask)


@dataclass(frozen=True)
class Window:
    """A question and a part of its text, with the fields of a tokenizer's encoding that are used later."""

    ids: list[int]
    type_ids: list[int]
    attention_mask: list[int]
    sequence_ids: list[int | None]
    offsets: list[tuple[int, int]]


@dataclass(frozen=True)
class Row:
    """One row of a call of the model."""

    owner: int
    """Number of the input it belongs to; a long text in question answering takes several rows."""
    given: Any
    """The input itself."""
    tokens: Any
    """An encoding without padding; for images, the pixels."""
    length: int
    """Number of tokens; 0 for images, which all have one size."""


class TextReader:
    """Tokenizes and pads.

    Args:
        tokenizer: a `tokenizers.Tokenizer` of the bundle's own.
        names: the graph's inputs.
        task: the task the model was trained for.
        how: how training read texts.
    """

    def __init__(self, tokenizer: Tokenizer, names: Sequence[str], task: Task, how: TextInputs) -> None:
        self._tokenizer, self._names, self._task, self._how = tokenizer, names, task, how
        self._long = LongTexts(how.max_length, how.truncation_side, self._count)
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = how.splits_special_tokens
        if task.reads_windows:
            tokenizer.no_truncation()  # its own windows abort the process if a question leaves little room
        else:
            tokenizer.enable_truncation(how.max_length, direction=how.truncation_side)

    def rows(self, texts: Sequence[object], before: int = 0) -> list[Row]:
        """Tokenize.

        Args:
            texts: what to read.
            before: number of inputs before these, for error messages.

        Raises:
            InputError: not what the task reads.
        """
        given, longest = list(texts), self._how.max_length
        parts: list[Sequence[Tokens | Window | Encoding]] = [
            [one] if isinstance(one, Tokens) or not self._task.reads_windows else windows_of(one, longest, number)
            for number, one in enumerate(self._encode(given, before), before)
        ]
        return [Row(owner, given[owner], one, len(one.ids)) for owner, windows in enumerate(parts) for one in windows]

    def feed(self, rows: Sequence[Row], length: int) -> dict[str, Array]:
        """The inputs of a call.

        Args:
            rows: the rows to read.
            length: tokens to pad every row to.
        """
        fillers = {IDS: self._how.pad_token_id, MASK: 0, SEGMENTS: 0}
        return {name: _padded([self._values(row, name) for row in rows], length, fillers[name]) for name in self._names}

    def _values(self, row: Row, name: str) -> list[int]:
        if name == MASK and not row.length and self._task.one_answer:
            return [1]  # with an empty mask all padding is attended, and its length depends on the batch
        if name == SEGMENTS and not self._how.segments:
            return [0] * row.length
        values: list[int] = getattr(row.tokens, FIELDS.get(name, name))
        return values

    def _encode(self, given: list[object], before: int) -> list[Tokens | Encoding]:
        texts = [read_text(item, number, self._task) for number, item in enumerate(given, before)]
        words = self._task.reads_words and any(not isinstance(item, str) for item in texts)
        if words and any(isinstance(item, str) for item in texts):
            raise InputError("texts and lists of words are mixed; use one form for all inputs")
        found: list[Tokens | Encoding] = []
        for part in _parts([self._enough_of(text) for text in texts]):
            if self._task.reads_words or self._task.reads_windows:
                found += self._tokenizer.encode_batch(part, is_pretokenized=words)
            else:  # without what was truncated
                found += map(Tokens.of, self._encode_rows(part))
        return found

    def _encode_rows(self, texts: list[Text]) -> list[Encoding]:
        """Without token offsets, which are not used here; without a post-processor that loses segments, too."""
        if SEGMENTS in self._names and any(isinstance(text, tuple) for text in texts):
            return list(self._tokenizer.encode_batch(texts))
        return list(self._tokenizer.encode_batch_fast(texts))

    def _enough_of(self, text: Text) -> Text:
        """As much of a text as its row needs; all of it where windows or places in the whole text are told."""
        if self._task.reads_windows or (self._task.reads_words and self._how.truncation_side == "left"):
            return text
        return self._long.enough_of(text, sparing=self._task.reads_words)

    def _count(self, text: str) -> int:
        """The number of a text's tokens, without special ones."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return len(encoding.ids) + sum(len(one.ids) for one in encoding.overflowing)


class ImageReader:
    """Takes pixels as the base's image processor makes them.

    Args:
        shape: channels, height and width that the graph expects.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = tuple(shape)

    def rows(self, images: Sequence[object], before: int = 0) -> list[Row]:
        """Check.

        Args:
            images: what to read.
            before: number of images before these, for error messages.

        Raises:
            InputError: not an array of numbers, or an image of another shape.
        """
        arrays = [self._array(image, number) for number, image in enumerate(images, before)]
        return [Row(owner, array, array, 0) for owner, array in enumerate(arrays)]

    def feed(self, rows: Sequence[Row], length: int) -> dict[str, Array]:
        """The stacked images of a call; `length` does not apply."""
        _ = length
        return {PIXELS: np.stack([row.tokens for row in rows])}

    def _array(self, image: object, number: int) -> Array:
        takes = f"the model takes {self._shape} (channels, height, width); prepare it with the bundle's image processor"
        try:
            array = np.asarray(image, np.float32)
        except (TypeError, ValueError, RuntimeError) as error:  # the last is torch's, for a tensor with a gradient
            found = f"{type(image).__name__} {shortened(repr(image))}"
            raise InputError(f"input {number}: an image must be an array of floats, got {found}; {takes}") from error
        if array.shape != self._shape:
            raise InputError(f"input {number}: the image has shape {array.shape}, but {takes}")
        if not np.isfinite(array).all():
            raise InputError(f"input {number}: the image has values that are no numbers (NaN or infinite); {takes}")
        return array


def _parts(texts: list[Text]) -> Iterator[list[Text]]:
    """Texts in their order, some at a time."""
    part: list[Text] = []
    characters = 0
    for text in texts:
        size = len(text) if isinstance(text, str) else sum(map(len, text))
        if part and characters + size > TOGETHER:
            yield part
            part, characters = [], 0
        part.append(text)
        characters += size
    if part:
        yield part


def windows_of(encoding: Encoding, max_length: int, number: int = 0) -> list[Window]:
    """A question and its text as rows of at most `max_length` tokens: the whole question with each part of the text.

    Args:
        encoding: question and text, not truncated.
        max_length: maximum tokens per row.
        number: the number of the input.

    Raises:
        InputError: the question leaves no room for the text.
    """
    own = [token for token, sequence in enumerate(encoding.sequence_ids) if sequence == CONTEXT]
    first, end = (own[0], own[-1] + 1) if own else (len(encoding.ids), len(encoding.ids))
    around = len(encoding.ids) - (end - first)
    room = max_length - around
    if room < 1:
        raise InputError(
            f"input {number}: the question and special tokens take {around} of {max_length} tokens and leave no room "
            "for a text; ask a shorter question"
        )
    step = room - room // WINDOW_SHARE
    starts = range(first, max(first + 1, end - (room - step)), step)
    parts = [[*range(first), *range(start, min(start + room, end)), *range(end, len(encoding.ids))] for start in starts]
    return [
        Window(
            ids=[encoding.ids[i] for i in part],
            type_ids=[encoding.type_ids[i] for i in part],
            attention_mask=[1] * len(part),
            sequence_ids=[encoding.sequence_ids[i] for i in part],
            offsets=[encoding.offsets[i] for i in part],
        )
        for part in parts
    ]


def _padded(rows: list[list[int]], length: int, filler: int) -> npt.NDArray[np.int64]:
    return np.asarray([row + [filler] * (length - len(row)) for row in rows], np.int64)
