"""The names that a package offers at its top, each imported when it is first asked for.

A package's `__init__` has one table of names. Completion, `import *` and the error for a misspelt name all read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DISTRIBUTION = "finegates-export"
VERSION = "__version__"


def public_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The module functions `__getattr__` and `__dir__`, and `__all__`, of a package that imports nothing up front.

    Args:
        package: its name.
        homes: where each public name lives, as `module:attribute`; a module alone as `module`.

    Returns:
        `__getattr__`, `__dir__` and `__all__`, the last sorted. `__version__` comes on top: pyproject.toml has it, and
        the installed distribution says it.
    """

    def getattr_(name: str) -> Any:
        if name == VERSION:
            return _version(package)
        if name in homes:
            from pkgutil import resolve_name

            return resolve_name(homes[name])
        raise AttributeError(f"module {package!r} has no attribute {name!r}{_suggestion(name, homes)}")

    def dir_() -> list[str]:
        import sys

        return sorted({*vars(sys.modules[package]), *homes, VERSION})

    return getattr_, dir_, sorted(homes)


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError as error:
        raise AttributeError(f"{package} has no version: {DISTRIBUTION} is not installed") from error


def _suggestion(name: str, homes: Mapping[str, str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, homes, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
