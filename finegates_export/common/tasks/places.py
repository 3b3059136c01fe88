"""The part shared by tasks whose answers are parts of the text, which no tensor can hold."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict

from finegates_export.common.files import JsonObject
from finegates_export.common.tasks.answers import Answer, AnswerTensor, Schema, TaggedText
from finegates_export.common.tasks.task import Task


class PlacesInText(Task):
    """Answers are words with places in the text."""

    one_answer = False

    def answer_tensors(self, labels: Sequence[str]) -> tuple[AnswerTensor, ...]:
        return ()

    def answer_schema(self) -> dict[str, Schema]:
        return {}

    def as_json(self, result: TaggedText | Answer) -> JsonObject:
        return asdict(result)

    def triton_refusal(self, outputs: Collection[str]) -> str | None:
        return (
            f"{self.name}: its answers are words with places in the text, which a tensor does not hold; serve the "
            "bundle with finegates_export.load instead"
        )
