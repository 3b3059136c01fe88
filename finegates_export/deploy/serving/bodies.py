"""What a request may hold, as pydantic's types with the server's limits: they check it and describe it in OpenAPI."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Optional, Union

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, create_model, model_validator

from finegates_export.common.tasks import Task
from finegates_export.deploy.serving.model import ServedModel, Text
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.deploy.serving.protocol import INPUT, PAIR, STRINGS, outputs_of

ANNOTATED: Any = Annotated
LIST: Any = list
LITERAL: Any = Literal
OPTIONAL: Any = Optional
UNION: Any = Union
"""Forms of types for members that are only known at runtime, which a type checker cannot follow."""
ONE, SEVERAL, WHOLE, PARTS = "<one>", "<several>", "<text>", "<parts>"
TAGS = (ONE, SEVERAL, WHOLE, PARTS)
"""Names of alternatives, which say nothing to a client."""


class Checked(BaseModel):
    """Takes no string for a number and no number for a string; ignores fields of a later protocol."""

    model_config = ConfigDict(strict=True)


class Exact(BaseModel):
    """As `Checked`, and has no other fields: a misspelt one would be ignored."""

    model_config = ConfigDict(strict=True, extra="forbid")


def plain_type(model: ServedModel, options: ServeOptions) -> Any:
    """The type of a body of `/predict`: `text`, or `texts`."""
    one = _one(model.task, options)
    alone = create_model(f"Text of {model.name}", __base__=Exact, text=(one, ...))
    several = create_model(
        f"Texts of {model.name}", __base__=Exact, texts=(ANNOTATED[LIST[one], Field(max_length=options.max_texts)], ...)
    )
    return ANNOTATED[
        UNION[ANNOTATED[alone, Tag(ONE)], ANNOTATED[several, Tag(SEVERAL)]],
        Discriminator(lambda value: SEVERAL if isinstance(value, dict) and "texts" in value else ONE),
    ]


def texts_of(body: Any) -> tuple[list[Text], bool]:
    """The texts of a checked body of `/predict`, and whether it was a single one."""
    return (body.texts, False) if hasattr(body, "texts") else ([body.text], True)


def protocol_type(model: ServedModel, options: ServeOptions) -> Any:
    """The type of a request of the Open Inference Protocol."""
    text = _text(options)
    size = ANNOTATED[int, Field(ge=0, le=options.max_texts)]
    row = ANNOTATED[LIST[text], Field(min_length=1, max_length=PAIR)]
    value = ANNOTATED[
        UNION[ANNOTATED[text, Tag(WHOLE)], ANNOTATED[row, Tag(PARTS)]],
        Discriminator(_kind),
    ]
    anything = (OPTIONAL[dict[str, Any]], None)
    tensor = create_model(
        f"Input of {model.name}", __base__=_Tensor, name=(LITERAL[INPUT], ...), datatype=(LITERAL[STRINGS], ...),
        shape=(ANNOTATED[LIST[size], Field(min_length=1, max_length=PAIR)], ...),
        data=(ANNOTATED[LIST[value], Field(max_length=PAIR * options.max_texts)], ...), parameters=anything,
    )  # fmt: skip
    output = create_model(
        f"Output of {model.name}", __base__=Checked, name=(LITERAL[tuple(outputs_of(model))], ...), parameters=anything
    )
    return create_model(
        f"Request of {model.name}", __base__=Checked,
        inputs=(ANNOTATED[LIST[tensor], Field(min_length=1, max_length=1)], ...),
        id=(OPTIONAL[text], None),
        parameters=anything, outputs=(OPTIONAL[LIST[output]], None),
    )  # fmt: skip


class _Tensor(Checked):
    """Values fit the shape."""

    @model_validator(mode="after")
    def _fits(self) -> _Tensor:
        shape, data = getattr(self, "shape"), list(flat(self))  # noqa: B009  # fields of the classes that are made
        if len(shape) == PAIR and shape[1] not in (1, PAIR):
            raise ValueError(f"shape is {shape}; give [B], [B, 1] or, for pairs, [B, {PAIR}]")
        if len(data) != math.prod(shape):
            raise ValueError(f"data has {len(data)} values, but shape {shape} asks for {math.prod(shape)}")
        return self


def flat(tensor: Any) -> Iterator[str]:
    """The values of a tensor of at most two dimensions, row by row.

    Raises:
        ValueError: a row of another length than the shape says, which would shift the pairs of later rows.
    """
    width = math.prod(tensor.shape[1:])
    for number, value in enumerate(tensor.data):
        if not isinstance(value, list):
            yield value
        elif len(value) == width:
            yield from value
        else:
            raise ValueError(f"data[{number}] has {len(value)} values, but shape {tensor.shape} asks for {width}")


def told(error: dict[str, Any]) -> str:
    """A finding of pydantic's on one line: where, what, and what was given."""
    place = ""
    for part in error["loc"]:
        if part not in (*TAGS, "body"):
            place += f"[{part}]" if isinstance(part, int) else f"{'.' * bool(place)}{str(part)[:100]}"
    given = error.get("input")
    shown = f"{len(given)}" if "too_" in error["type"] and isinstance(given, (str, list)) else kind(given)
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("missing", "value_error", "extra_forbidden"):
        return f"{place or 'the body'}: {said}"
    return f"{place or 'the body'}: {said}, got {shown}"


def kind(value: object) -> str:
    """A value's type in JSON's terms; a short word or a number as it is."""
    names: dict[type, str] = {type(None): "null", bool: "a boolean", str: "a string", list: "an array"}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)[:20]
    return names.get(type(value), "an object")


def _text(options: ServeOptions) -> Any:
    return ANNOTATED[str, StringConstraints(strict=True, max_length=options.max_characters)]


def _one(task: Task, options: ServeOptions) -> Any:
    text = _text(options)
    fewest, most = (0, options.max_characters) if task.reads_words else (PAIR, PAIR)
    parts = ANNOTATED[LIST[text], Field(min_length=fewest, max_length=most)]
    if task.needs_pair:
        return parts
    return ANNOTATED[
        UNION[ANNOTATED[text, Tag(WHOLE)], ANNOTATED[parts, Tag(PARTS)]],
        Discriminator(_kind),
    ]


def _kind(value: object) -> str:
    return PARTS if isinstance(value, list) else WHOLE
