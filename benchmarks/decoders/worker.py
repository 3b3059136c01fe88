"""The fresh process that loads one decoder: how long that takes, the time to the first token, and peak memory."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

TIMES = 3
"""The first token is asked for, after a call that sets up what later ones find."""


def main() -> None:
    """Read the spec named by the first argument, write the result to the second."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Path(sys.argv[2]).write_text(json.dumps(measure(spec)), encoding="utf-8")


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Seconds, and the peak memory of the process.

    Args:
        spec: `bundle`, `form`, `threads`, and the `text` of a prompt.
    """
    started = time.perf_counter()
    from finegates_export import GenerationOptions, load
    from finegates_export.pipeline.memory import peak_bytes

    generator: Any = load(spec["bundle"], form=spec["form"], threads=spec["threads"])
    loaded = time.perf_counter() - started
    generator.generate([spec["text"]], GenerationOptions(max_new_tokens=2))
    first = statistics.median(_first_token(generator, spec["text"]) for _ in range(TIMES))
    return {"load": loaded, "first token": first, "peak_memory_bytes": peak_bytes()}


def _first_token(generator: Any, text: str) -> float:
    """From the text to its first new token, on a model that is loaded."""
    from finegates_export import GenerationOptions

    started = time.perf_counter()
    generator.generate([text], GenerationOptions(max_new_tokens=1))
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
