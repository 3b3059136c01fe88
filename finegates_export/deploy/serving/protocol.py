"""The Open Inference Protocol, version 2, over HTTP: requests, answers, and model metadata.

Tensors are JSON, flat or nested; the binary extension of some servers is not supported.
Shapes: B texts, C labels, D hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from finegates_export.common.files import JsonObject
from finegates_export.common.tasks.answers import AnswerTensor
from finegates_export.deploy.serving.model import Answer, ServedModel, Text
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.deploy.serving.refusals import UNPROCESSABLE, Refused
from finegates_export.deploy.serving.texts import PAIR, check_answers, check_count, check_text, kind

Wanted = TypeVar("Wanted", JsonObject, list[Any])
"""What a field of a request has to be."""
INPUT = "text"
PLATFORM = "onnxruntime_onnx"
STRINGS, NUMBERS = "BYTES", "FP32"
MAX_NUMBER = 2**64 - 1
ROWS = -1
"""A dimension that varies between requests."""


@dataclass(frozen=True)
class Asked:
    """An inference request."""

    texts: list[Text]
    outputs: tuple[str, ...]
    """The requested outputs; empty means all."""
    id: str | None
    """Returned with the answer."""


def outputs_of(model: ServedModel) -> dict[str, tuple[str, list[int]]]:
    """Data type and shape of every output."""
    return {
        one.name: (STRINGS if one.text else NUMBERS, [ROWS] if one.width is None else [ROWS, one.width])
        for one in model.task.answer_tensors(model.labels)
    }


def metadata(model: ServedModel) -> JsonObject:
    """The metadata at `GET /v2/models/NAME`; a pair of texts is a row of two."""
    outputs = [{"name": name, "datatype": kind, "shape": shape} for name, (kind, shape) in outputs_of(model).items()]
    inputs = [{"name": INPUT, "datatype": STRINGS, "shape": [ROWS]}]
    return {"name": model.name, "platform": PLATFORM, "inputs": inputs, "outputs": outputs}


def read_request(asked: JsonObject, model: ServedModel, options: ServeOptions) -> Asked:
    """An inference request.

    Raises:
        Refused: against the protocol, with tensors that the model lacks, or past a limit.
    """
    wanted = asked.get("id")
    if wanted is not None:
        check_text(wanted, "id", options)
    _optional(asked, "parameters", dict)
    tensors = _objects(asked.get("inputs"), "inputs", list)
    if len(tensors) != 1:
        raise Refused(UNPROCESSABLE, f"inputs has {len(tensors)} tensors, but the model takes one, {INPUT!r}")
    return Asked(_texts(_objects(tensors[0], "inputs[0]", dict), options), _wanted(asked, model), wanted)


def write_answer(asked: Asked, found: Sequence[Answer], model: ServedModel) -> JsonObject:
    """The answer to an inference request.

    Raises:
        Refused: the model cannot read a text.
    """
    check_answers(found)
    tensors = [
        {"name": one.name, "datatype": STRINGS if one.text else NUMBERS, **_tensor(one, found, model)}
        for one in model.task.answer_tensors(model.labels)
        if not asked.outputs or one.name in asked.outputs
    ]
    answer = {"model_name": model.name, "outputs": tensors}
    return answer if asked.id is None else {**answer, "id": asked.id}


def _tensor(tensor: AnswerTensor, found: Sequence[Answer], model: ServedModel) -> JsonObject:
    rows = [model.task.tensor_row(tensor.name, answer, model.labels) for answer in found]
    if tensor.width is None:
        return {"shape": [len(found)], "data": rows}
    width = len(rows[0]) if rows else len(model.labels)
    return {"shape": [len(found), width], "data": [value for row in rows for value in row]}


def _texts(tensor: JsonObject, options: ServeOptions) -> list[Text]:
    if tensor.get("name") != INPUT:
        raise Refused(UNPROCESSABLE, f"the input tensor is {tensor.get('name')!r}, but the model takes {INPUT!r}")
    if tensor.get("datatype") != STRINGS:
        raise Refused(UNPROCESSABLE, f"{INPUT} has datatype {tensor.get('datatype')!r}, but must be {STRINGS!r}")
    _optional(tensor, "parameters", dict, f"{INPUT}.")
    shape = _objects(tensor.get("shape"), f"{INPUT}.shape", list)
    if not all(type(size) is int and 0 <= size <= MAX_NUMBER for size in shape):
        raise Refused(UNPROCESSABLE, f"{INPUT}.shape must hold counts, got {str(shape)[:100]}")
    if len(shape) not in (1, 2) or (len(shape) == PAIR and shape[1] not in (1, PAIR)):
        raise Refused(
            UNPROCESSABLE, f"{INPUT}.shape is {str(shape)[:100]}; give [B], [B, 1] or, for pairs, [B, {PAIR}]"
        )
    check_count(shape[0], options)
    values = list(_flat(_objects(tensor.get("data"), f"{INPUT}.data", list), shape))
    if len(values) != math.prod(shape):
        told = f"{INPUT}.data has {len(values)} values, but shape {shape} asks for {math.prod(shape)}"
        raise Refused(UNPROCESSABLE, told)
    texts = [check_text(value, f"{INPUT}.data[{number}]", options) for number, value in enumerate(values)]
    if shape[1:] == [PAIR]:
        return list(zip(texts[::PAIR], texts[1::PAIR], strict=True))
    return list(texts)


def _wanted(asked: JsonObject, model: ServedModel) -> tuple[str, ...]:
    known = tuple(outputs_of(model))
    names = []
    for number, output in enumerate(_optional(asked, "outputs", list)):
        name = _objects(output, f"outputs[{number}]", dict).get("name")
        if name not in known:
            raise Refused(UNPROCESSABLE, f"outputs[{number}] is {str(name)[:100]!r}; the model has {', '.join(known)}")
        names.append(name)
    return tuple(names)


def _flat(values: list[object], shape: list[int]) -> Iterator[object]:
    """The values of a tensor of at most two dimensions, row by row.

    Raises:
        Refused: a row of another length than the shape says, which would shift the pairs of later rows.
    """
    for number, value in enumerate(values):
        if not isinstance(value, list):
            yield value
        elif len(value) == math.prod(shape[1:]):
            yield from value
        else:
            told = f"{INPUT}.data[{number}] has {len(value)} values, but shape {shape} asks for {math.prod(shape[1:])}"
            raise Refused(UNPROCESSABLE, told)


def _optional(holder: JsonObject, name: str, wanted: type[Wanted], prefix: str = "") -> Wanted:
    """Fields that may be omitted or null; many clients write null for a missing value."""
    value = holder.get(name)
    return wanted() if value is None else _objects(value, f"{prefix}{name}", wanted)


def _objects(value: object, name: str, wanted: type[Wanted]) -> Wanted:
    if not isinstance(value, wanted):
        told = "missing" if value is None else kind(value)
        raise Refused(UNPROCESSABLE, f"{name} is {told}, but must be {kind(wanted())}")
    return value
