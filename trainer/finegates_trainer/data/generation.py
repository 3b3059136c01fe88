"""Rows for text generation: documents, prompts with completions, and conversations.

A table's columns decide which of them it holds: `messages`; `prompt` and `completion`; or a text.
"""

from __future__ import annotations

from typing import Any

from finegates_export.errors import InputError
from finegates_trainer.data.cells import LISTS, odd_value
from finegates_trainer.data.gaps import is_nothing
from finegates_trainer.data.rows import DataSource, Rows
from finegates_trainer.data.tables import place

DOCUMENT, PROMPT, COMPLETION, MESSAGES = "text", "prompt", "completion", "messages"
ANSWERING = "assistant"
"""The role whose messages are learned."""
MESSAGE_KEYS = ("role", "content")
FORMS = f"{MESSAGES}; {PROMPT} and {COMPLETION}; or {DOCUMENT}"


def generation_rows(table: Any, source: DataSource, where: str) -> Rows:
    """The rows of a table: texts unchanged; labels are completions, or None.

    Raises:
        InputError: no known columns, a row without text, or messages without an answer; the message names the row.
    """
    if source.pair_column is not None:
        raise InputError(f"pair-column: {source.task} reads {FORMS}; omit --pair-column")
    texts, completions = _columns(table, source, where)
    places = [place(table, number, where) for number in range(len(table))]
    read = [_text(value, texts, at) for value, at in zip(table[texts].tolist(), places, strict=True)]
    conversations = sum(not isinstance(text, str) for text in read)
    if conversations and (completions is not None or conversations < len(read)):
        raise InputError(
            f"{where}: column {texts!r} mixes conversations with texts or completions; use one form: {FORMS}"
        )
    labels: list[Any] = [None] * len(read)
    if completions is not None:
        pairs = zip(table[completions].tolist(), places, strict=True)
        labels = [_string(value, completions, at) for value, at in pairs]
    return Rows(read, None, labels, places)


def _columns(table: Any, source: DataSource, where: str) -> tuple[str, str | None]:
    """The column of texts, and the column of completions."""
    named = [name for name in (source.text_column, source.label_column) if name is not None]
    missing = [name for name in named if name not in table.columns]
    has = ", ".join(map(str, table.columns))
    if missing:
        raise InputError(f"{where} has no column {missing[0]!r}; it has {has}")
    if source.text_column is not None:
        return source.text_column, source.label_column
    if source.label_column is not None:
        raise InputError(f"label-column: {source.label_column} has no prompt to complete; name one with --text-column")
    if MESSAGES in table.columns:
        return MESSAGES, None
    if PROMPT in table.columns and COMPLETION in table.columns:
        return PROMPT, COMPLETION
    if DOCUMENT in table.columns:
        return DOCUMENT, None
    raise InputError(f"{where} has no text to generate; it needs {FORMS}, but has {has}. Name one with --text-column")


def _text(value: Any, column: str, at: str) -> Any:
    """A text, or the messages of a conversation."""
    if not isinstance(value, LISTS):
        return _string(value, column, at)
    messages = [_message(message, column, at) for message in value]
    if not any(message["role"] == ANSWERING and message["content"] for message in messages):
        raise InputError(f"{at} has no message of the {ANSWERING} in {column!r} and nothing to learn; remove it")
    return messages


def _message(message: Any, column: str, at: str) -> dict[str, str]:
    known = isinstance(message, dict) and all(isinstance(message.get(key), str) for key in MESSAGE_KEYS)
    if not known:
        raise InputError(
            f"{at} has {message!r:.60} in {column!r}; but a message must be an object with the strings role and content"
        )
    more = sorted(str(key) for key, given in message.items() if key not in MESSAGE_KEYS and not is_nothing(given))
    if more:
        raise InputError(
            f"{at} has a message with {', '.join(more)} in {column!r}, of which training reads only "
            f"{' and '.join(MESSAGE_KEYS)}; write all that is said into content, and remove the rest"
        )
    for key in MESSAGE_KEYS:
        _whole(message[key], column, at)
    return {"role": message["role"], "content": message["content"]}


def _string(value: Any, column: str, at: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{at} has {value!r:.60} in {column!r}, but a text is expected; correct or remove it")
    if not value.strip():
        raise InputError(f"{at} has an empty {column!r} and nothing to learn; remove it")
    return _whole(value, column, at)


def _whole(text: str, column: str, at: str) -> str:
    """The text, if all its characters are whole."""
    odd = odd_value(text)
    if odd:
        raise InputError(f"{at} has {odd} in {column!r}; correct or remove it")
    return text
