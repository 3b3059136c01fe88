"""Sessions of onnxruntime as the processes that measure open them."""

from __future__ import annotations

from typing import Any

from finegates_export.runtime.session import check_started, chosen_providers


def open_session(path: str, threads: int, provider: str = "cpu") -> Any:
    """A session whose threads sleep between its runs.

    Args:
        path: the ONNX file.
        threads: processor threads of one operator.
        provider: what runs it; see `SessionOptions`.

    Raises:
        UnsupportedError: the provider is not there, or does not start.
    """
    import onnxruntime

    providers = chosen_providers(provider)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    # Else a session's idle threads would go on spinning into the next graph's turn.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, settings, providers=providers)
    check_started(session, providers[0])
    return session
