"""The Open Inference Protocol, version 2, over HTTP: requests, answers, and model metadata.

Tensors are JSON, flat or nested; the binary extension of some servers is not supported.
Shapes: B texts, C labels, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finegates_export.common.files import JsonObject
from finegates_export.common.tasks.answers import AnswerTensor
from finegates_export.deploy.serving.model import Answer, ServedModel, Text
from finegates_export.deploy.serving.refusals import check_answers

INPUT = "text"
PLATFORM = "onnxruntime_onnx"
STRINGS, NUMBERS = "BYTES", "FP32"
PAIR = 2
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


def read_request(body: Any) -> Asked:
    """A checked inference request; see `bodies.protocol_type`."""
    (tensor,) = body.inputs
    values = [part for value in tensor.data for part in (value if isinstance(value, list) else [value])]
    texts: list[Text] = list(values)
    if tensor.shape[1:] == [PAIR]:
        texts = list(zip(values[::PAIR], values[1::PAIR], strict=True))
    return Asked(texts, tuple(output.name for output in body.outputs or ()), body.id)


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
