"""Some of a run's texts with the rows that training reads for them, as a run folder keeps them.

Among them are a text too long for a row and one that names a special token: there readers differ first.
"""

from __future__ import annotations

from typing import Any

from finegates_export.sources.sample_texts import SampleText
from finegates_trainer.data import Rows
from finegates_trainer.data.generation import ANSWERING
from finegates_trainer.data.tokenizing import Reading, model_rows

TEXTS = 8
"""Rows that texts are taken from."""
PROMPT = 200
"""Characters of a prompt at most."""
REPEATED = 64
"""Most times a text is repeated to be longer than a row."""
SPECIAL = ("sep_token", "eos_token", "mask_token", "pad_token")


def sample_texts(reading: Reading, rows: Rows) -> list[SampleText]:
    """The first rows' texts, as training reads them.

    Args:
        reading: how training reads rows.
        rows: the evaluation rows.
    """
    task = reading.task
    if task.images or not len(rows):
        return []
    first = rows.take(list(range(min(TEXTS, len(rows)))))
    if task.generates:
        return [_prompt(reading.preprocessor, text) for text in first.texts]
    if task.reads_words:
        return _read(reading, [list(words) for words in first.texts], None, is_split_into_words=True)
    texts, pairs = _with_hard_ones(reading, list(first.texts), first.pairs)
    if task.reads_windows:
        return [one for one in _read(reading, texts, pairs, truncation=False) if len(one.ids) <= reading.max_length]
    if task.joins_pairs or pairs is None:
        return _read(reading, texts, pairs)
    return [*_read(reading, texts, None), *_read(reading, pairs, None)]


def _read(reading: Reading, texts: list[Any], pairs: list[str] | None, **settings: Any) -> list[SampleText]:
    encoded = reading.encode(texts, pairs, padding=False, **settings)
    given = texts if pairs is None else [[*pair] for pair in zip(texts, pairs, strict=True)]
    rows = model_rows(encoded, reading.names)
    return [
        SampleText(one, tuple(row["input_ids"]), tuple(row.get("token_type_ids", ())))
        for one, row in zip(given, rows, strict=True)
    ]


def _with_hard_ones(reading: Reading, texts: list[Any], pairs: list[str] | None) -> tuple[list[str], list[str] | None]:
    """The texts, with one too long for a row and one that names a special token."""
    named = next((getattr(reading.preprocessor, name) for name in SPECIAL if getattr(reading.preprocessor, name)), "")
    joined = " ".join(texts)
    times = min(REPEATED, 1 + 4 * reading.max_length // max(1, len(joined.split())))
    # Its words all stand at other places than in the rows themselves, and the two ends differ.
    long = " ".join([joined] * times + [texts[0]])
    hard = [long, f"{texts[-1]} {named} {texts[0]}"]
    if pairs is None:
        return [*texts, *hard], None
    return [*texts, *hard, texts[0]], [*pairs, pairs[-1], pairs[0], long]


def _prompt(tokenizer: Any, given: Any) -> SampleText:
    """A text to continue, or a conversation before its first answer."""
    if isinstance(given, str):
        text = given[:PROMPT]
        return SampleText(text, tuple(tokenizer(text, verbose=False)["input_ids"]))
    answered = next(number for number, message in enumerate(given) if message["role"] == ANSWERING)
    chat = given[: max(1, answered)]
    read = tokenizer.apply_chat_template(chat, return_dict=True, add_generation_prompt=True)
    return SampleText(chat, tuple(read["input_ids"]))
