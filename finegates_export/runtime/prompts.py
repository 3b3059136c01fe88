"""From prompts to token ids, with only `tokenizers`: a text as it is, a chat through the tokenizer's template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from finegates_export.common.text_inputs import TextInputs
from finegates_export.errors import InputError
from finegates_export.runtime.chat import ChatTemplate
from finegates_export.runtime.texts import encodable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Prompt = str | Sequence[Mapping[str, str]]
"""A text, or a chat: messages of a role and a content."""


class PromptReader:
    """Tokenizes prompts.

    Args:
        tokenizer: a `tokenizers.Tokenizer` of the bundle's own.
        template: its chat template.
        how: how training read texts; prompts are never truncated.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, how: TextInputs) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = how.splits_special_tokens
        self.tokenizer = tokenizer
        self.pad_id = how.pad_token_id
        """The token that pads shorter prompts."""
        self._template = template

    def ids(self, prompt: object, number: int) -> list[int]:
        """The token ids of a prompt.

        Args:
            prompt: see `Prompt`.
            number: its number, for error messages.

        Raises:
            InputError: an input that is not a prompt.
            MissingExtraError: a chat, and jinja2 is not installed.
        """
        if isinstance(prompt, str):
            return list(self.tokenizer.encode(encodable(prompt, number)).ids)
        if not isinstance(prompt, Sequence) or isinstance(prompt, bytes):
            raise InputError(f"prompt {number} must be a text or a list of messages, got {type(prompt).__name__}")
        text = encodable(self._template.render(prompt, number), number)
        # The template writes all special tokens, including the first.
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)
