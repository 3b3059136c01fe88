"""Chats as the text that the model was trained to continue: the tokenizer's template, in jinja2's sandbox."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finegates_export.common.files import JsonObject
from finegates_export.common.json_files import read_object
from finegates_export.errors import InputError, missing_extra

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2.parser import Parser

TEMPLATE_FILE = "chat_template.jinja"
"""Where transformers 5 writes the template; version 4 puts it in `tokenizer_config.json`."""
TOKENIZER_CONFIG = "tokenizer_config.json"
DEFAULT = "default"
"""The template to use if a tokenizer has several."""
MESSAGE = ("role", "content")


class ChatTemplate:
    """A bundle's template, if it has one.

    Args:
        source: the template; None if the tokenizer has none.
        tokens: special tokens that it may use by name, such as `bos_token`.
    """

    def __init__(self, source: str | None, tokens: Mapping[str, str]) -> None:
        self._source, self._tokens = source, dict(tokens)

    @classmethod
    def of(cls, folder: Path) -> ChatTemplate:
        """The template of a bundle's tokenizer.

        Raises:
            InputError: `tokenizer_config.json` is damaged.
        """
        config, file = folder / TOKENIZER_CONFIG, folder / TEMPLATE_FILE
        known: JsonObject = read_object(config, InputError, "export again") if config.is_file() else {}
        source = file.read_text(encoding="utf-8") if file.is_file() else known.get("chat_template")
        if isinstance(source, list):
            named = [one for one in source if isinstance(one, dict)]
            source = {one.get("name"): one.get("template") for one in named}.get(DEFAULT)
        if not isinstance(source, (str, type(None))):
            raise InputError(f"{config} is damaged (chat_template: must be a text); export again")
        given = {name: value for name, value in known.items() if name.endswith("_token")}
        tokens = {name: value.get("content") if isinstance(value, dict) else value for name, value in given.items()}
        return cls(source, {name: value for name, value in tokens.items() if isinstance(value, str)})

    def render(self, messages: Sequence[object], number: int) -> str:
        """A chat as text, up to the model's answer, including all special tokens.

        Args:
            messages: mappings with a role and a content.
            number: the prompt's number, for error messages.

        Raises:
            InputError: not a chat, no template, or a template that refuses this chat.
            MissingExtraError: jinja2 is not installed.
        """
        chat = [_message(message, number) for message in messages]
        if not chat:
            raise InputError(f"prompt {number}: a chat needs at least one message, got none")
        if self._source is None:
            raise InputError(
                f"prompt {number} is a chat, but this bundle's tokenizer lacks a chat template; give a text, or "
                f"export a base whose tokenizer has one ({TEMPLATE_FILE})"
            )
        environment = _sandbox()
        try:
            text = environment.from_string(self._source).render(
                messages=chat, add_generation_prompt=True, tools=None, documents=None, **self._tokens
            )
        except Exception as error:  # a template can fail like any program: a null field, a number instead of a text
            raise InputError(
                f"prompt {number}: the chat template refuses this chat: {error}; change it, or give a text"
            ) from error
        return str(text)


def _message(message: object, number: int) -> dict[str, str]:
    if not isinstance(message, Mapping) or not all(isinstance(message.get(name), str) for name in MESSAGE):
        told = sorted(map(str, message)) if isinstance(message, Mapping) else type(message).__name__
        raise InputError(f"prompt {number}: a message must be a mapping with the strings role and content, got {told}")
    return dict(message)


def _sandbox() -> Environment:
    """The environment that transformers renders templates in.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    try:
        import jinja2.ext
        from jinja2 import nodes
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise missing_extra("jinja2", "chat") from error

    class Marked(jinja2.ext.Extension):
        """`{% generation %}` marks what a model learns to write; rendering ignores it."""

        tags = {"generation"}  # noqa: RUF012  # as jinja2 declares it

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def as_json(value: object, ensure_ascii: bool = False, **how: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **how)

    def now(form: str) -> str:
        from datetime import datetime

        return datetime.now().strftime(form)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Marked, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = as_json
    environment.globals |= {"raise_exception": refuse, "strftime_now": now}
    return environment
