"""The fresh process that loads one decoder and times it: prompts read, the first token, tokens one by one."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Read the spec named by the first argument, write the result to the second."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Path(sys.argv[2]).write_text(json.dumps(measure(spec)), encoding="utf-8")


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Seconds of everything, and the peak memory of the process.

    Args:
        spec: `bundle`, `form`, `threads`, `text` and `ids` of a longer one, `prompts` (lengths), `repeats`, `prompt`
            (tokens in front of those written), `tokens` (to write).
    """
    started = time.perf_counter()
    from finegates_export import GenerationOptions, load
    from finegates_export.memory import peak_bytes

    generator: Any = load(spec["bundle"], form=spec["form"], threads=spec["threads"])
    loaded = time.perf_counter() - started
    graph, ids = generator.graph, spec["ids"]
    generator.generate([spec["text"]], GenerationOptions(max_new_tokens=2))  # sets up what later calls find
    first = statistics.median(_first_token(generator, spec["text"]) for _ in range(spec["repeats"]))
    prefill = {
        str(length): statistics.median(_seconds(graph, ids[:length]) for _ in range(spec["repeats"]))
        for length in spec["prompts"]
    }
    decode = _decode(graph, ids[: spec["prompt"]], spec["tokens"])
    return {
        "load": loaded, "first token": first, "prefill": prefill, "decode": decode, "peak_memory_bytes": peak_bytes(),
    }  # fmt: skip


def _first_token(generator: Any, text: str) -> float:
    """From the text to its first new token, on a model that is loaded."""
    from finegates_export import GenerationOptions

    started = time.perf_counter()
    generator.generate([text], GenerationOptions(max_new_tokens=1))
    return time.perf_counter() - started


def _seconds(graph: Any, ids: list[int]) -> float:
    started = time.perf_counter()
    graph.read([ids], 0)
    return time.perf_counter() - started


def _decode(graph: Any, prompt: list[int], tokens: int) -> float:
    """Seconds a token, the first one apart: it is part of reading the prompt."""
    cache, logits_BV = graph.read([prompt], 0)
    one = np.ones((1, 1), np.int64)
    seconds = []
    for _ in range(tokens):
        started = time.perf_counter()
        logits_BV = cache.read(one * int(logits_BV[0].argmax()), one)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
