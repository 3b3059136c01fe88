"""Which versions made a file: stamped on runs, bundles and reports."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "finegates-export",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "onnx",
    "onnxscript",
    "onnxruntime",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what comes out, those installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
