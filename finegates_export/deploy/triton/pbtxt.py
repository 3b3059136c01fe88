"""Messages in protobuf's text format, the format of Triton's `config.pbtxt`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Message = dict[str, object]
"""A message by its fields; see `pbtxt`."""
INDENT = "  "
PRINTABLE = " "
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True)
class Word:
    """A value written without quotes, as of an enumeration."""

    name: str


def pbtxt(message: Mapping[str, object]) -> str:
    """A message as text.

    Args:
        message: by field: a number, a truth value, a string, a `Word`, a mapping for a nested message, or a list of
            these for a repeated field; None omits a field.
    """
    return "\n".join(_lines(message, "")) + "\n"


def parameters(values: Mapping[str, str]) -> list[Message]:
    """A map from strings to Triton's `ModelParameter`."""
    return [{"key": key, "value": {"string_value": value}} for key, value in values.items()]


def pairs(values: Mapping[str, object]) -> list[Message]:
    """A protobuf map: a message of key and value for every entry."""
    return [{"key": key, "value": value} for key, value in values.items()]


def _lines(message: Mapping[str, object], indent: str) -> Iterator[str]:
    for field, value in message.items():
        repeated = value if isinstance(value, Sequence) and not isinstance(value, str) else None
        if repeated and all(isinstance(item, int) for item in repeated):
            yield f"{indent}{field}: [{', '.join(map(str, repeated))}]"
            continue
        for item in [value] if repeated is None else repeated:
            if isinstance(item, Mapping):
                yield f"{indent}{field} {{"
                yield from _lines(item, indent + INDENT)
                yield f"{indent}}}"
            elif item is not None:
                yield f"{indent}{field}: {_scalar(item)}"


def _scalar(value: object) -> str:
    if isinstance(value, Word):
        return value.name
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(map(_escaped, value)) + '"'
    return str(value)


def _escaped(letter: str) -> str:
    if letter in ESCAPES:
        return ESCAPES[letter]
    return letter if letter >= PRINTABLE else f"\\{ord(letter):03o}"
