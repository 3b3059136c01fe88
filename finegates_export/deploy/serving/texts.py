"""From a request's JSON to texts, within the limits; and the plain form of requests, `/predict`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from finegates_export.common.files import JsonObject
from finegates_export.deploy.serving.model import Answer, Text
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.deploy.serving.refusals import BAD_REQUEST, UNPROCESSABLE, Refused

PAIR = 2
TEXT, TEXTS = "text", "texts"


def read_json(body: bytes) -> JsonObject:
    """A request's body.

    Raises:
        Refused: not JSON, or not an object.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(BAD_REQUEST, f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Refused(UNPROCESSABLE, f"the body is {kind(value)}, but must be an object")
    return value


def read_plain(asked: JsonObject, options: ServeOptions) -> tuple[list[Text], bool]:
    """The texts of a request to `/predict`, and whether it was a single one.

    Raises:
        Refused: other fields, wrong types, or past a limit.
    """
    unknown = sorted(set(asked) - {TEXT, TEXTS})
    if unknown:
        raise Refused(UNPROCESSABLE, f"{unknown[0]!r} is not a field of a request; give {TEXT!r} or {TEXTS!r}")
    if len(asked) != 1:
        raise Refused(UNPROCESSABLE, f"give either {TEXT!r} or {TEXTS!r}, got {len(asked)} of them")
    alone = TEXT in asked
    given = [asked[TEXT]] if alone else asked[TEXTS]
    if not isinstance(given, list):
        raise Refused(UNPROCESSABLE, f"{TEXTS!r} is {kind(given)}, but must be an array of texts")
    check_count(len(given), options)
    names = [TEXT] if alone else [f"{TEXTS}[{number}]" for number in range(len(given))]
    return [_text_or_pair(value, name, options) for value, name in zip(given, names, strict=True)], alone


def plain_answer(found: Sequence[Answer], alone: bool) -> JsonObject:
    """The answer of `/predict`: that of the one text, or those of all.

    Raises:
        Refused: the model cannot read a text.
    """
    check_answers(found)
    return dict(found[0]) if alone else {"predictions": list(found)}


def check_count(count: int, options: ServeOptions) -> None:
    """Refuse more texts than a request may have."""
    if count > options.max_texts:
        raise Refused(UNPROCESSABLE, f"a request has {count} texts, above the limit of {options.max_texts}")


def check_text(value: object, name: str, options: ServeOptions) -> str:
    """A text that a tokenizer can read.

    Args:
        value: the request's value.
        name: its place in the request.
        options: the limits.

    Raises:
        Refused: not a string, too long, or not valid Unicode.
    """
    if not isinstance(value, str):
        raise Refused(UNPROCESSABLE, f"{name} is {kind(value)}, but must be a string")
    if len(value) > options.max_characters:
        raise Refused(UNPROCESSABLE, f"{name} has {len(value)} characters, above the limit of {options.max_characters}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Refused(UNPROCESSABLE, f"{name} holds half a surrogate pair at character {error.start}") from error
    return value


def check_answers(found: Sequence[Answer]) -> None:
    """Refuse a request with a text that the model could not read."""
    for number, answer in enumerate(found):
        if "error" in answer:
            raise Refused(UNPROCESSABLE, f"text {number}: {answer['error']}")


def kind(value: object) -> str:
    """A value's type in JSON's terms."""
    names = {
        type(None): "null",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "an array",
    }
    return names.get(type(value), "an object")


def _text_or_pair(value: object, name: str, options: ServeOptions) -> Text:
    if not isinstance(value, list):
        return check_text(value, name, options)
    if len(value) != PAIR:
        raise Refused(UNPROCESSABLE, f"{name} is an array of {len(value)}, but a pair of texts has {PAIR}")
    first, second = (check_text(part, f"{name}[{place}]", options) for place, part in enumerate(value))
    return first, second
