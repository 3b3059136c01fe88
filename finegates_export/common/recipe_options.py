"""Options from YAML: they fill in what no flag has set.

Some options are alternatives, as steps and epochs are. A flag that sets one of them drops the others from YAML, which
would override or contradict it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts import App, ArgumentCollection

Alternatives = Sequence[Sequence[str]]
"""Groups of alternative options, by their flags."""
Source = Callable[["App", tuple[str, ...], "ArgumentCollection"], None]
"""Fills the parser's arguments; see `cyclopts.App.config`."""


def from_yaml(file: str, alternatives: Alternatives) -> Source:
    """Options of a YAML file that neither flags nor earlier files have set.

    Args:
        file: the file.
        alternatives: see `Alternatives`.
    """
    import cyclopts

    read = cyclopts.config.Yaml(file, must_exist=True, use_commands_as_keys=False)

    def fill(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        answered = []
        for flags in alternatives:
            group = [argument for argument in arguments if argument.name in flags]
            if any(argument.tokens for argument in group):
                answered += [argument for argument in group if not argument.tokens]
        read(app, commands, arguments)
        for argument in answered:
            argument.tokens.clear()

    return fill


def whole_numbers(options: type[Any]) -> Source:
    """Refuses a fraction for a whole number; the parser would round it.

    Args:
        options: a dataclass.
    """
    whole = {flag_of(field.name) for field in dataclasses.fields(options) if str(field.type).startswith("int")}

    def refuse(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        for argument in arguments:
            for token in argument.tokens if argument.name in whole else ():
                if "." in token.value and not _is_whole(token.value):
                    raise ValueError(f"{argument.name.removeprefix('--')}: must be a whole number, got {token.value}")

    return refuse


def flag_of(option: str) -> str:
    """The flag of a field."""
    return "--" + option.replace("_", "-")


def _is_whole(text: str) -> bool:
    try:
        return float(text).is_integer()
    except ValueError:
        return True  # the parser has its own message for text that is not a number
