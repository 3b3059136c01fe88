"""What the runtime costs: its start in a fresh process, and `predict` against onnxruntime and tokenizers by hand.

By hand is what one writes who has a graph, a tokenizer and no library: tokenize with padding, run, softmax, argmax.
Both answer the same batches of sentences, on sessions of the same settings, and take turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from finegates_bench.measuring.stamp import make_stamp, stamp_line
from finegates_export import load
from finegates_export.common.files import write_json
from finegates_export.costs.timing.fresh_process import run_fresh
from finegates_export.costs.timing.statistics import median_interval, ratio_interval
from finegates_export.costs.timing.timer import Budget, time_interleaved
from finegates_export.errors import FineGatesError
from finegates_export.runtime.bundle_files import TOKENIZER_JSON, graph_in, pad_token, read_bundle

WORKER = Path(__file__).with_name("runtime_start_worker.py")
ROUNDS = 10
NANOSECONDS = 1e9
OURS, BY_HAND = "predict", "by hand"
FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
SAME = 1e-6
"""Probabilities may differ by so much between the two ways."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True, help="TSV with sentence and label")
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix")
    parser.add_argument("--batches", type=int, default=8, help="of sentences, predicted in every round")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--starts", type=int, default=15, help="fresh processes")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    try:
        result = measure(arguments)
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))
    write_json(arguments.out.with_suffix(".json"), result)
    arguments.out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both measurements."""
    size = arguments.batch_size
    lines = arguments.rows.read_text(encoding="utf-8").splitlines()[1 : arguments.batches * size + 1]
    texts = [line.rsplit("\t", 1)[0] for line in lines]
    batches = [texts[start : start + size] for start in range(0, len(texts), size)]
    stamp = dataclasses.asdict(dataclasses.replace(make_stamp(arguments.threads), command="make bench-runtime"))
    return {
        "stamp": stamp,
        "bundle": arguments.bundle.name,
        "start": starts(arguments, texts[:1]),
        "batches": {"texts": len(texts), "batch_size": size, **against_by_hand(arguments, batches)},
    }


def starts(arguments: argparse.Namespace, texts: list[str]) -> dict[str, Any]:
    """Seconds of the parts of a start, and of whole processes, Python's own start included."""
    spec = {"bundle": str(arguments.bundle.absolute()), "threads": arguments.threads, "texts": texts}
    parts: list[dict[str, float]] = []
    whole: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.starts + 1):
            started = time.perf_counter()
            told = run_fresh(WORKER, spec, Path(folder), "starts the runtime", "see whether the bundle loads")
            whole.append(time.perf_counter() - started)
            if told["heavy"]:
                raise ValueError(f"the runtime imported {', '.join(told['heavy'])}")
            parts.append({**told["seconds"], "import to first prediction": sum(told["seconds"].values())})
    del parts[0], whole[0]  # the first process reads the disk, the others find its pages in memory
    medians = {name: median_interval([one[name] for one in parts]).median for name in parts[0]}
    slowest = max(one["import to first prediction"] for one in parts)
    return {"processes": len(parts), **medians, "slowest": slowest, "whole process": median_interval(whole).median}


def against_by_hand(arguments: argparse.Namespace, batches: list[list[str]]) -> dict[str, Any]:
    """Batches in both ways, in turns."""
    predictor = load(arguments.bundle, threads=arguments.threads)
    hand = by_hand(arguments.bundle, arguments.threads)
    for batch in batches:
        ours, theirs = predictor.predict(batch, batch_size=len(batch)), hand(batch)
        scores = np.array([list(one.scores.values()) for one in ours])
        if not np.allclose(scores, [list(one["scores"].values()) for one in theirs], atol=SAME):
            raise ValueError("the two ways answer differently; nothing is measured")
    ways: dict[str, Callable[[], object]] = {
        OURS: functools.partial(_each, functools.partial(predictor.predict, batch_size=arguments.batch_size), batches),
        BY_HAND: functools.partial(_each, hand, batches),
    }
    times = time_interleaved(ways, Budget(ROUNDS, arguments.seconds))
    ratio = ratio_interval([times[OURS], times[BY_HAND]], [0], [1])
    medians = {name: median_interval(rounds).median / len(batches) / NANOSECONDS for name, rounds in times.items()}
    return {
        "seconds": medians, "ratio": ratio.median, "low": ratio.low, "high": ratio.high, "rounds": ratio.rounds,
    }  # fmt: skip


def by_hand(bundle: Path, threads: int) -> Callable[[list[str]], list[dict[str, Any]]]:
    """A function that classifies a batch with onnxruntime and tokenizers alone."""
    import onnxruntime
    from tokenizers import Tokenizer

    info = read_bundle(bundle)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        graph_in(bundle, info, "float"), settings, providers=["CPUExecutionProvider"]
    )
    names, labels = [value.name for value in session.get_inputs()], info["labels"]
    tokenizer = Tokenizer.from_file(str(bundle / TOKENIZER_JSON))
    tokenizer.enable_truncation(info["max_length"])
    token = pad_token(bundle)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(token), pad_token=token)

    def classify(texts: list[str]) -> list[dict[str, Any]]:
        encoded = tokenizer.encode_batch(texts)
        feed = {name: np.array([getattr(one, FIELDS[name]) for one in encoded], np.int64) for name in names}
        logits = session.run(["logits"], feed)[0]
        shifted = np.exp(logits - logits.max(-1, keepdims=True))
        scores = shifted / shifted.sum(-1, keepdims=True)
        return [
            {"label": labels[best], "scores": dict(zip(labels, row.tolist(), strict=True))}
            for best, row in zip(scores.argmax(-1), scores, strict=True)
        ]

    return classify


def _each(function: Callable[[list[str]], object], batches: list[list[str]]) -> None:
    for batch in batches:
        function(batch)


def markdown(result: dict[str, Any]) -> str:
    """The page."""
    stamp, start, batches = result["stamp"], result["start"], result["batches"]
    parts = ("import", "load", "first prediction", "import to first prediction", "slowest", "whole process")
    lines = [
        "# The runtime: its start, and what it adds to onnxruntime and tokenizers",
        "",
        f"`{result['bundle']}`, {stamp['threads']} threads.",
        "",
        f"A fresh process, median of {start['processes']} (*slowest*: the worst import to first prediction; *whole "
        "process*: with the start of Python):",
        "",
        "| part | seconds |",
        "|---|---|",
        *(f"| {part} | {start[part]:.3f} |" for part in parts),
        "",
        f"{batches['texts']} sentences in batches of {batches['batch_size']}, in turns with the same written by hand, "
        f"{batches['rounds']} rounds:",
        "",
        "| way | ms a batch |",
        "|---|---|",
        *(f"| {name} | {seconds * 1000:.2f} |" for name, seconds in batches["seconds"].items()),
        "",
        f"`predict` takes {batches['ratio']:.3f} of the time by hand (95 %: {batches['low']:.3f} to "
        f"{batches['high']:.3f}).",
    ]
    return "\n".join([*lines, "", stamp_line(stamp)]) + "\n"


if __name__ == "__main__":
    main()
