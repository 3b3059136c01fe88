"""Libraries that would report to their makers are told not to, before any of them is imported."""

from __future__ import annotations

import os
import sys

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Environment variables that onnxruntime, Hugging Face's libraries and Ray read when they are imported."""


def keep_quiet() -> None:
    """Turn off the reports of onnxruntime, Hugging Face's libraries and Ray, here and in processes started from here.

    A variable that is set already stays, so that a user may choose otherwise; an empty one says nothing.
    """
    for name, value in SWITCHES.items():
        if not os.environ.get(name):
            os.environ[name] = value
    imported = sys.modules.get("onnxruntime")
    if imported is not None and os.environ[next(iter(SWITCHES))] == "1":
        stop = getattr(imported, "disable_telemetry_events", None)
        if stop is not None:
            stop()  # what its import has begun is sent; nothing more
