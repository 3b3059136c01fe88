"""The pages of `--help`: options in the groups that their dataclass names, the everyday ones first."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from finegates_export.common.options import Options
from finegates_export.common.recipe_options import flag_of

if TYPE_CHECKING:
    import cyclopts

GENERAL = "General"
"""The last group: what every command has."""


def grouped_app(options: type[Options], **settings: Any) -> cyclopts.App:
    """A command line whose help shows the options by `options.groups`, then what every command has.

    Args:
        options: the dataclass that is read.
        settings: of `cyclopts.App`.
    """
    import cyclopts

    shown = {
        flag_of(name): cyclopts.Parameter(group=cyclopts.Group(title, sort_key=place))
        for place, (title, names) in enumerate(options.groups.items())
        for name in names
    }
    general = cyclopts.Group(GENERAL, sort_key=len(options.groups))
    defaults = {flag_of(field.name): field.default for field in dataclasses.fields(options)}  # type: ignore[arg-type]  # every subclass is a dataclass

    class GroupedApp(cyclopts.App):
        """Puts each option into its group, and prints defaults as a user would write them."""

        def assemble_argument_collection(self, **how: Any) -> cyclopts.ArgumentCollection:
            found = super().assemble_argument_collection(**how)
            for argument in found:
                group = shown.get(argument.name, cyclopts.Parameter(group=general))
                default = cyclopts.Parameter(show_default=_shown_default(defaults.get(argument.name)))
                argument.parameter = cyclopts.Parameter.combine(argument.parameter, group, default)
            return found

    return GroupedApp(group_commands=general, **settings)


def _shown_default(value: object) -> bool | str | None:
    """A list as its flag takes it; nothing for an empty one, whose help says what happens then."""
    if isinstance(value, tuple) and value:
        return ",".join(map(str, value))
    return False if value in ((), "") else None
