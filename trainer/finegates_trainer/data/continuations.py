"""Rows for text generation as tokens, each labelled with the next token.

Documents are packed into full blocks, separated by end-of-text. Of a prompt and its completion only the completion is
learned, of a conversation only the assistant's messages. The label of a token is the next token: logits and labels have
the same positions, and a block's last token is not lost.
"""

from __future__ import annotations

import re
from typing import Any

from finegates_export.common.tasks import NO_LABEL, task_of
from finegates_export.errors import InputError
from finegates_trainer.data import Rows
from finegates_trainer.data.examples import Encoded, TextExamples
from finegates_trainer.data.generation import ANSWERING

GENERATION = "text-generation"
GENERATION_BLOCK = re.compile(r"\{%-?\s*generation\b")
"""How a chat template marks the assistant's words."""
Tokens = tuple[list[int], list[bool]]
"""Ids, and which of them to learn."""


def continuation_examples(
    tokenizer: Any, rows: Rows, max_length: int, names: tuple[str, ...], pad_id: int
) -> TextExamples:
    """Rows for text generation, as a language model reads them.

    Args:
        tokenizer: the base's.
        rows: of `generation_rows`.
        max_length: tokens per block; rows that are not packed are truncated to it.
        names: the inputs of the model's graph.
        pad_id: id of the padding token.

    Raises:
        InputError: no end-of-text token, no chat template or one that does not mark the assistant's tokens, or
            everything to learn was truncated.
    """
    if all(isinstance(text, str) for text in rows.texts):
        end = _end_of_text(tokenizer)
        if all(label is None for label in rows.labels):
            return _packed(_documents(tokenizer, rows.texts, end), max_length, names, pad_id)
        tokens = _completed(tokenizer, rows, end)
    else:
        tokens = _conversations(tokenizer, rows)
    # One more than the model reads: the label of the last one.
    short = [(ids[: max_length + 1], learned[: max_length + 1]) for ids, learned in tokens]
    kept = [(ids, learned) for ids, learned in short if any(learned[1:])]
    if not kept:
        raise InputError(
            f"in all {len(tokens)} rows, what is to be learned lies beyond the first {max_length} tokens; raise "
            "--max-length"
        )
    cut = sum(len(ids) > max_length + 1 for ids, _ in tokens)
    return _examples(kept, names, pad_id, dropped=len(tokens) - len(kept), cut=cut)


def _documents(tokenizer: Any, texts: list[str], end: int) -> list[Tokens]:
    """Each document's tokens and end-of-text; a document's first token is not predicted from the previous one."""
    documents = []
    for ids in tokenizer(texts, verbose=False)["input_ids"]:
        whole = ids if ids[-1:] == [end] else [*ids, end]
        documents.append((whole, [False] + [True] * (len(whole) - 1)))
    return documents


def _packed(documents: list[Tokens], max_length: int, names: tuple[str, ...], pad_id: int) -> TextExamples:
    ids = [one for document, _ in documents for one in document]
    learned = [one for _, document in documents for one in document]
    starts = range(0, len(ids) - 1, max_length)
    blocks = [(ids[start : start + max_length + 1], learned[start : start + max_length + 1]) for start in starts]
    return _examples([block for block in blocks if any(block[1][1:])], names, pad_id)


def _completed(tokenizer: Any, rows: Rows, end: int) -> list[Tokens]:
    """Prompts and completions are tokenized separately, as in generation."""
    prompts = tokenizer(rows.texts, verbose=False)["input_ids"]
    completions = tokenizer(rows.labels, add_special_tokens=False, verbose=False)["input_ids"]
    return [
        ([*prompt, *completion, end], [False] * len(prompt) + [True] * (len(completion) + 1))
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def _conversations(tokenizer: Any, rows: Rows) -> list[Tokens]:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise InputError(
            "the base's tokenizer lacks a chat template for conversations; take a base that was trained on "
            "them, put its chat_template.jinja beside tokenizer.json, or give prompt and completion"
        )
    marked = tokenizer.is_fast and GENERATION_BLOCK.search(tokenizer.get_chat_template()) is not None
    read = _by_marks if marked else _by_prefixes
    conversations = []
    for messages, at in zip(rows.texts, rows.places or map(str, range(len(rows))), strict=True):
        try:
            conversations.append(read(tokenizer, messages))
        except (TemplateError, IndexError) as error:
            raise InputError(
                f"{at}: the chat template refuses this conversation ({error}); correct or remove it"
            ) from error
        except _NoPrefixError as error:
            raise InputError(
                f"{at}: the chat template rewrites earlier messages once message {error.message} answers, so the "
                "text before it is unknown; end the conversation there, or mark the assistant's words in "
                "the template with {% generation %}"
            ) from error
    return conversations


class _NoPrefixError(Exception):
    """A conversation up to an answer is not a prefix of the whole."""

    def __init__(self, message: int) -> None:
        super().__init__()
        self.message = message


def _by_marks(tokenizer: Any, messages: list[dict[str, str]]) -> Tokens:
    """Learn the contents of the template's generation blocks.

    If a block ends in a space that belongs to no token, transformers marks everything after it, so blocks are counted.
    """
    encoded = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    marks = [bool(mark) for mark in encoded["assistant_masks"]]
    blocks = sum(mark and not before for before, mark in zip([False, *marks], marks, strict=False))
    if blocks != sum(message["role"] == ANSWERING for message in messages):
        return _by_prefixes(tokenizer, messages)
    return list(encoded["input_ids"]), marks


def _by_prefixes(tokenizer: Any, messages: list[dict[str, str]]) -> Tokens:
    """Learn the tokens that an answer adds to those read before generating it."""
    whole = _rendered(tokenizer, messages)
    learned = [False] * len(whole)
    for number, message in enumerate(messages):
        if message["role"] != ANSWERING:
            continue
        before = _rendered(tokenizer, messages[:number], add_generation_prompt=True)
        through = _rendered(tokenizer, messages[: number + 1])
        if whole[: len(through)] != through or through[: len(before)] != before:
            raise _NoPrefixError(number + 1)
        learned[len(before) : len(through)] = [True] * (len(through) - len(before))
    return whole, learned


def _rendered(tokenizer: Any, messages: list[dict[str, str]], **settings: Any) -> list[int]:
    return list(tokenizer.apply_chat_template(messages, return_dict=True, **settings)["input_ids"])


def _end_of_text(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise InputError(
            "the base's tokenizer lacks an end-of-text token; name one as eos_token in its tokenizer_config.json"
        )
    return int(tokenizer.eos_token_id)


def _examples(
    tokens: list[Tokens], names: tuple[str, ...], pad_id: int, *, dropped: int = 0, cut: int = 0
) -> TextExamples:
    inputs, labels = [], []
    for ids, learned in tokens:
        row: Encoded = {"input_ids": ids[:-1], "attention_mask": [1] * (len(ids) - 1)}
        inputs.append({name: row[name] for name in names if name in row})
        labels.append([one if known else NO_LABEL for one, known in zip(ids[1:], learned[1:], strict=True)])
    return TextExamples(inputs, labels, pad_id, task_of(GENERATION), dropped, cut)
