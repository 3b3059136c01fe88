"""Sessions of onnxruntime as the processes that measure open them."""

from __future__ import annotations

from typing import Any


def open_session(path: str, threads: int, *, shared: bool = False) -> Any:
    """A session on the CPU whose threads sleep between its runs.

    Args:
        path: the ONNX file.
        threads: processor threads of one operator.
        shared: take memory from the process's one arena; see `share_memory`.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    # Else a session's idle threads would go on spinning into the next graph's turn.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    if shared:
        settings.add_session_config_entry("session.use_env_allocators", "1")
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def share_memory() -> None:
    """Make one arena for all sessions that are opened with `shared`.

    With an arena each, a hundred sessions hold the activations of a hundred blocks, gigabytes for a large model. The
    sessions run in turns, so one arena has what each of them would have by itself.
    """
    import onnxruntime

    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(place, None)
