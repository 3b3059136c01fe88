"""onnxruntime sessions for the measuring processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finegates_export.runtime.session import SessionOptions, open_session


def resting_session(path: str, threads: int, provider: str = "cpu") -> Any:
    """A session whose threads sleep between its runs.

    Args:
        path: the ONNX file.
        threads: CPU threads of one operator.
        provider: the provider; see `SessionOptions`.

    Raises:
        InputError: onnxruntime cannot read the file.
        UnsupportedError: the provider is missing or does not start.
    """
    return open_session(Path(path), SessionOptions(provider=provider, threads=threads), rest=True)
