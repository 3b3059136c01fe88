"""onnxruntime sessions for the measuring processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.runtime.session import SessionOptions, open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def resting_session(path: str, threads: int, provider: str = "cpu") -> InferenceSession:
    """A session whose threads sleep between its runs.

    Args:
        path: the ONNX file.
        threads: CPU threads of one operator.
        provider: the provider; see `SessionOptions`.

    Raises:
        InputError: onnxruntime cannot read the file.
        UnsupportedError: the provider is missing or does not start.
    """
    session: InferenceSession = open_session(Path(path), SessionOptions(provider=provider, threads=threads), rest=True)
    return session
