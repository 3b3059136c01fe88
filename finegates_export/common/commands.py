"""What all commands share: how options are read, how errors are reported, where results go.

Every command reads one frozen dataclass of options from flags and, with `--config`, from YAML; flags override it. A
bad value or a known error is one line on stderr and exit status 2, never a traceback; 3 where all was written but a
quantized form that was refused; Ctrl-C is exit status 130.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from finegates_export.common.grouped_help import grouped_app
from finegates_export.common.options import Options
from finegates_export.common.recipe_options import Alternatives, flag_of, from_yaml, whole_numbers
from finegates_export.common.words import one_line
from finegates_export.errors import FineGatesError, FormRefusedError, missing_extra

USAGE_STATUS = 2
REFUSED_FORM_STATUS = 3
EXTRAS = {
    "finegates-train": "train", "finegates-bench": "bench", "finegates-serve": "serve", "finegates-engine": "tensorrt",
}  # fmt: skip
"""The extra that brings what a command needs, where it is not `export`."""
INTERRUPTED_STATUS = 130


@dataclasses.dataclass(frozen=True)
class Command:
    """One command or subcommand."""

    summary: str
    """The first lines of its help."""
    options: type[Options]
    """A frozen dataclass; its fields become flags and their docstrings the help."""
    act: Callable[[Any, Output], None]
    alternatives: Alternatives = ()
    """Options that answer one question, by group: a flag overrides everything that YAML says in its group."""


def run_command(name: str, command: Command, others: Mapping[str, Command] | None = None) -> None:
    """Read options from the command line and act on them; leaves the process with an exit status.

    Args:
        name: the command's name.
        command: what it does.
        others: subcommands, by the first word that selects them.
    """
    words = sys.argv[1:]
    if words and others and words[0] in others:
        _run(f"{name} {words[0]}", others[words[0]], words[1:])
    else:
        _run(name, command, words)


def _run(name: str, command: Command, words: Sequence[str]) -> None:
    try:
        import cyclopts
        from rich.console import Console
    except ImportError as error:
        sys.exit(str(missing_extra(error.name or "cyclopts", EXTRAS.get(name.split(maxsplit=1)[0], "export"))))

    options = command.options
    app = grouped_app(
        options, name=name, help=command.summary, result_action="return_value", suppress_keyboard_interrupt=False
    )
    config_files, arguments = _config_files(_split_lists(words, _list_flags(options)))
    for file in config_files:
        if not Path(file).is_file():
            sys.exit(_print_error(name, f"--config {file} does not exist", USAGE_STATUS))
    app.config = [*(from_yaml(file, command.alternatives) for file in config_files), whole_numbers(options)]

    def main(
        chosen: options,  # type: ignore[valid-type]  # the dataclass is handed in as a value
        *,
        json: bool = False,
        verbose: bool = False,
        quiet: bool = False,
    ) -> None:
        command.act(chosen, Output(name, as_json=json, verbose=verbose, quiet=quiet))

    main.__annotations__["chosen"] = _flattened(cyclopts, options)
    main.__annotations__.update({"json": _flag(cyclopts, "Print the result as JSON."),
                                 "verbose": _flag(cyclopts, "Show messages of the libraries too."),
                                 "quiet": _flag(cyclopts, "Print nothing but errors.")})  # fmt: skip
    main.__doc__ = command.summary
    if not _required(options):
        main.__defaults__ = (options(),)  # the parser needs a default if no flag is required
    app.default(main)
    try:
        app(arguments, exit_on_error=False, print_error=False, console=Console(stderr=False))
    except cyclopts.CycloptsError as error:
        sys.exit(_print_error(name, f"{_flat(error)} (see {name} --help)", USAGE_STATUS))
    except FormRefusedError as error:
        sys.exit(_print_error(name, _flat(error), REFUSED_FORM_STATUS))
    except (FineGatesError, ValueError) as error:
        sys.exit(_print_error(name, _flat(error), USAGE_STATUS))
    except KeyboardInterrupt:
        sys.exit(_print_error(name, "interrupted", INTERRUPTED_STATUS))


class Output:
    """Where a command's output goes: results to stdout, everything else to stderr.

    Args:
        name: the command's name.
        as_json: print results as JSON.
        verbose: show messages of the libraries.
        quiet: print nothing but errors and, with `as_json`, the result.
    """

    def __init__(self, name: str, *, as_json: bool, verbose: bool, quiet: bool) -> None:
        self.name = name
        self.as_json, self.verbose, self.quiet = as_json, verbose, quiet
        logging.basicConfig(level=logging.INFO if verbose else logging.ERROR)
        if not (verbose or quiet):
            logging.getLogger("finegates").setLevel(logging.WARNING)
        if not verbose:
            os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
            os.environ.setdefault("PYTHONWARNINGS", "ignore")
            import warnings

            warnings.simplefilter("ignore")

    def result(self, text: str, values: object) -> None:
        """The command's result: as text, or its values as JSON."""
        if self.as_json:
            sys.stdout.write(json.dumps(values, indent=2) + "\n")
        elif not self.quiet:
            sys.stdout.write(text.rstrip() + "\n")

    def say(self, text: str) -> None:
        """Report progress."""
        if not self.quiet:
            sys.stderr.write(text.rstrip() + "\n")

    def fail(self, messages: Sequence[str], status: int = USAGE_STATUS) -> None:
        """End the command with one line per failure; do nothing if there is none."""
        for message in messages:
            _print_error(self.name, message, status)
        if messages:
            sys.exit(status)


def _print_error(name: str, message: str, status: int) -> int:
    sys.stderr.write(f"{name}: {one_line(message)}\n")
    return status


def _flat(error: BaseException) -> str:
    return " ".join(str(error).split())


def _flag(cyclopts: ModuleType, help_text: str) -> object:
    from typing import Annotated

    return Annotated[bool, cyclopts.Parameter(help=help_text, negative=())]


def _flattened(cyclopts: ModuleType, options: type[Options]) -> object:
    from typing import Annotated

    # A shell expands a pattern into several words after one flag.
    return Annotated[options, cyclopts.Parameter(name="*", negative_iterable=(), consume_multiple=True)]


def _required(options: type[Any]) -> list[str]:
    """Fields without a default."""
    unset = dataclasses.MISSING
    fields = dataclasses.fields(options)
    return [field.name for field in fields if field.default is unset and field.default_factory is unset]


def _list_flags(options: type[Any]) -> set[str]:
    """Flags of tuple fields, which take `--levels 0.2,0.4`; not of paths, which may contain commas."""
    types = {field.name: str(field.type) for field in dataclasses.fields(options)}
    lists = {name for name, told in types.items() if told.startswith("tuple[") and not told.startswith("tuple[Path")}
    return {flag_of(name) for name in lists}


def _split_lists(arguments: Sequence[str], flags: set[str]) -> list[str]:
    """`--levels 0.2,0.4` and `--levels=0.2,0.4` as the repeated flags that the parser knows."""
    split: list[str] = []
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag not in flags:
            split.append(word)
            continue
        if not equals:
            value = next(words, "")
        for item in value.split(","):
            split += [flag, item.strip()]
    return split


def _config_files(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Take every `--config FILE` out of the arguments."""
    files: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--config":
            files.append(next(words, ""))
        elif word.startswith("--config="):
            files.append(word.partition("=")[2])
        else:
            rest.append(word)
    return files, rest
