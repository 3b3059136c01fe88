"""What made a file: versions and the command, stamped on runs, bundles and reports."""

from __future__ import annotations

import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "finegates-export",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that affect the result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def command(library_call: str) -> str:
    """The command line if one of our commands is running, else the given name of a library call."""
    name = Path(sys.argv[0]).name
    return shlex.join([name, *sys.argv[1:]]) if name.startswith("finegates") else library_call
