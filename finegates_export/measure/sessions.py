"""Sessions of onnxruntime as the processes that measure open them."""

from __future__ import annotations

from typing import Any


def open_session(path: str, threads: int) -> Any:
    """A session on the CPU whose threads sleep between its runs.

    Args:
        path: the ONNX file.
        threads: processor threads of one operator.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    # Else a session's idle threads would go on spinning into the next graph's turn.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
