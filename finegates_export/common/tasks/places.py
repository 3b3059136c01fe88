"""The part shared by tasks whose answers are parts of the text, which no tensor can hold."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict

from finegates_export.common.files import JsonObject
from finegates_export.common.tasks.answers import NUMBER, STRING, WHOLE, Answer, AnswerTensor, Schema, TaggedText
from finegates_export.common.tasks.task import Task


class PlacesInText(Task):
    """Answers are words with places in the text."""

    one_answer = False
    served = True

    def answer_tensors(self, labels: Sequence[str]) -> tuple[AnswerTensor, ...]:
        return ()

    def answer_schema(self) -> dict[str, Schema]:
        place = {"text": STRING, "score": NUMBER, "start": WHOLE, "end": WHOLE}
        if not self.labels_tokens:
            return place
        word = {**place, "label": STRING, "number": WHOLE}
        entity = {**place, "label": STRING, "first": WHOLE, "last": WHOLE}
        kinds = {"words": word, "entities": entity}
        return {name: {"type": "array", "items": _object(fields)} for name, fields in kinds.items()}

    def as_json(self, result: TaggedText | Answer) -> JsonObject:
        return asdict(result)

    def triton_refusal(self, outputs: Collection[str]) -> str | None:
        return (
            f"{self.name}: its answers are words with places in the text, which a tensor does not hold; serve the "
            "bundle with finegates_export.load instead"
        )


def _object(fields: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": fields, "required": list(fields)}
