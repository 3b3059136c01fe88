"""Refuses a tokenizer whose saved file does not read texts as training does: a bundle has nothing else to read with."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finegates_export.common.text_inputs import TextInputs
from finegates_export.errors import InputError
from finegates_export.runtime.chat import ChatTemplate
from finegates_export.runtime.prompts import PromptReader
from finegates_export.runtime.reading import SEGMENTS, TextReader
from finegates_export.sources.sample_texts import SampleText, as_input

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from finegates_export.common.tasks import Task

TOKENIZER_JSON = "tokenizer.json"


def check_reading(
    name: str, tokenizer: Any, task: Task, names: tuple[str, ...], how: TextInputs, texts: list[SampleText]
) -> None:
    """Read texts with the file that a bundle will have, as a bundle reads them.

    Args:
        name: the base's, for messages.
        tokenizer: the base's transformers tokenizer.
        task: the run's task.
        names: the inputs of the model's graph.
        how: the description that the run keeps.
        texts: texts, and what training makes of them.

    Raises:
        InputError: there is no such file, or it reads a text otherwise.
    """
    own, template = _saved(name, tokenizer)
    for one in texts:
        found = _prompt(PromptReader(own, template, how), one) if task.generates else _row(own, task, names, how, one)
        if found != one:
            part = "tokens" if found.ids != one.ids else "segments"
            pairs = zip((one.ids, one.segments), (found.ids, found.segments), strict=True)
            trained, read = next(pair for pair in pairs if pair[0] != pair[1])
            raise InputError(
                f"{name}: its {type(tokenizer).__name__} and the {TOKENIZER_JSON} that it saves read {one.told} as "
                f"different {part}, {_brief(trained)} and {_brief(read)}; a bundle has only the file. Save the base "
                "with a tokenizer that agrees with its file (AutoTokenizer.from_pretrained(X).save_pretrained(Y))"
            )


def check_embeddings(name: str, tokenizer: Any, embeddings: int) -> None:
    """Refuse a tokenizer that has ids without an embedding.

    Args:
        name: the base's, for messages.
        tokenizer: the base's transformers tokenizer.
        embeddings: how many the model has.

    Raises:
        InputError: it has.
    """
    token, largest = max(tokenizer.get_vocab().items(), key=lambda pair: pair[1], default=("", 0))
    if largest >= embeddings:
        raise InputError(
            f"{name}: its tokenizer has the token {token!r} with id {largest}, but the model has {embeddings} "
            "embeddings; remove the token, or enlarge the model (resize_token_embeddings) and save it"
        )


def _saved(name: str, tokenizer: Any) -> tuple[Tokenizer, ChatTemplate]:
    """What a tokenizer saves: itself, and its chat template."""
    from tokenizers import Tokenizer

    with tempfile.TemporaryDirectory(prefix="finegates-") as place:
        tokenizer.save_pretrained(place)
        file = Path(place) / TOKENIZER_JSON
        if not file.is_file():
            raise InputError(
                f"{name}: its {type(tokenizer).__name__} saves no {TOKENIZER_JSON}, which a bundle reads texts with; "
                "take a base that has one"
            )
        return Tokenizer.from_file(str(file)), ChatTemplate.of(Path(place))


def _prompt(reader: PromptReader, one: SampleText) -> SampleText:
    return SampleText(one.given, tuple(reader.ids(one.given, 0)))


def _row(own: Tokenizer, task: Task, names: tuple[str, ...], how: TextInputs, one: SampleText) -> SampleText:
    reader = TextReader(own, names, task, how)
    row = reader.rows([as_input(one.given, task)])[0]
    segments = reader.feed([row], row.length).get(SEGMENTS)
    return SampleText(one.given, tuple(row.tokens.ids), () if segments is None else tuple(segments[0].tolist()))


def _brief(numbers: tuple[int, ...]) -> str:
    told = " ".join(map(str, numbers[:8]))
    return f"{told} ... ({len(numbers)})" if len(numbers) > 8 else told
