"""What gates add to a training step: LoRA alone against LoRA with gates of either layout, in time and in memory.

The trainer's own classes run, in the phase in which gates are pressed: noise, penalty and its correction are in every
step. Times come from one process in which the runs take turns step by step; memory from a process for each.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bert_base import write_base
from finegates_export.common.cache_folder import processor_name
from finegates_export.common.files import write_json
from finegates_export.common.stamp import versions
from finegates_export.costs.timing.statistics import median_interval, ratio_interval
from finegates_export.errors import FineGatesError
from finegates_export.pipeline.memory import peak_bytes

SHAPE = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
"""all-MiniLM-L6-v2's."""
LAYOUTS = ("none", "coupled", "matrix")
ROWS, TOKENS = 32, 28
RANK = 8
WORDS = 1000
MEMORY_STEPS, MEMORY_RUNS = 6, 3
WARM_STEPS = 3
NEVER = 1_000_000
"""Steps before the first evaluation, checkpoint or end: none of them is reached."""
GOALS = {"seconds": 1.15, "peak_bytes": 1.05}
"""What gates may cost, over LoRA alone."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where base and rows go")
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix")
    parser.add_argument("--steps", type=int, default=60, help="measured steps of each run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--time", metavar="PRECISION", help="only time, and print JSON")
    parser.add_argument("--memory", metavar="PRECISION:LAYOUT", help="only measure memory, and print JSON")
    arguments = parser.parse_args()
    if arguments.time:
        print(json.dumps(time_steps(arguments.work, arguments.time, arguments.steps, arguments.threads)))
        return
    if arguments.memory:
        precision, _, layout = arguments.memory.partition(":")
        print(json.dumps(measure_memory(arguments.work, precision, layout, arguments.threads)))
        return
    try:
        result = measure(arguments)
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))
    write_json(arguments.out.with_suffix(".json"), result)
    arguments.out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write base and rows, then time and weigh every layout at every precision, in fresh processes."""
    if not (arguments.work / "rows.tsv").exists():
        write_base(arguments.work / "base", **SHAPE)
        write_rows(arguments.work / "rows.tsv", (arguments.steps + WARM_STEPS + MEMORY_STEPS) * ROWS)
    precisions = {}
    names = ("float32", *(["bfloat16"] if has_bfloat16() else []))
    clocks = {precision: fresh(arguments, "--time", precision) for precision in names}
    for precision, times in clocks.items():
        memory = {layout: median_memory(arguments, precision, layout) for layout in LAYOUTS}
        precisions[precision] = {
            layout: {
                **{name: dataclasses.asdict(median_interval(clock[layout])) for name, clock in times.items()},
                **{f"{name}_over_none": over_none(clock, layout) for name, clock in times.items()},
                "peak_bytes": memory[layout],
                "peak_over_none": memory[layout] / memory["none"],
            }
            for layout in LAYOUTS
        }
    return {
        "shape": SHAPE,
        "rows": ROWS,
        "tokens": TOKENS,
        "lora_rank": RANK,
        "threads": arguments.threads,
        "processor": processor_name(),
        "versions": versions(),
        "goals": GOALS,
        "precisions": precisions,
    }


def over_none(times: dict[str, list[float]], layout: str) -> dict[str, float]:
    """A layout's time over LoRA alone in the same round."""
    return dataclasses.asdict(ratio_interval([times["none"], times[layout]], [1], [0]))


def median_memory(arguments: argparse.Namespace, precision: str, layout: str) -> int:
    """Peak memory in bytes; the allocator lays blocks out a little differently from process to process."""
    return int(np.median([fresh(arguments, "--memory", f"{precision}:{layout}") for _ in range(MEMORY_RUNS)]))


def write_rows(path: Path, count: int) -> None:
    """Texts of exactly `TOKENS` tokens, their two special ones included."""
    generator = np.random.default_rng(0)
    lines = ["text\tlabel"]
    for row in range(count):
        words = generator.integers(0, WORDS, TOKENS - 2)
        lines.append(" ".join(f"word{word}" for word in words) + f"\t{('no', 'yes')[row % 2]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16."""
    import torch

    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def fresh(arguments: argparse.Namespace, flag: str, value: str) -> Any:
    """This file in a process of its own."""
    command = [sys.executable, __file__, flag, value]
    for name in ("work", "out", "steps", "threads"):
        command += [f"--{name}", str(getattr(arguments, name))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def steps_of(work: Path, precision: str, layout: str, threads: int) -> Iterator[None]:
    """A run of the trainer, a step at a time; gates are pressed from the first step on."""
    import torch

    from finegates_trainer import TrainOptions
    from finegates_trainer.running.loop import Loop
    from finegates_trainer.running.reporter import Silent
    from finegates_trainer.running.setup import prepare

    torch.set_num_threads(threads)
    rows = str(work / "rows.tsv")
    options = TrainOptions(
        base=str(work / "base"), data=rows, eval_data=rows, out=work / "never-written", layout=layout, lora_rank=RANK,
        batch_size=ROWS, max_length=TOKENS, max_steps=NEVER, eval_steps=NEVER, save_steps=NEVER, free_fraction=0.0,
        precision=precision,
    )  # fmt: skip
    return Loop(prepare(options), work / f"checkpoints-{layout}", Silent()).steps(lambda *_: None)


def time_steps(work: Path, precision: str, steps: int, threads: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of every step by the clock and of the processor; in each round every layout takes one, first in turn."""
    runs = {layout: steps_of(work, precision, layout, threads) for layout in LAYOUTS}
    clocks = {"seconds": time.perf_counter, "processor_seconds": time.process_time}
    times: dict[str, dict[str, list[float]]] = {name: {layout: [] for layout in LAYOUTS} for name in clocks}
    for number in range(WARM_STEPS + steps):
        first = number % len(LAYOUTS)
        for layout in (*LAYOUTS[first:], *LAYOUTS[:first]):
            start = {name: clock() for name, clock in clocks.items()}
            next(runs[layout])
            for name, clock in clocks.items():
                times[name][layout].append(clock() - start[name])
    return {
        name: {layout: seconds[WARM_STEPS:] for layout, seconds in layouts.items()} for name, layouts in times.items()
    }


def measure_memory(work: Path, precision: str, layout: str, threads: int) -> int:
    """Peak resident memory of a process that takes a few steps."""
    run = steps_of(work, precision, layout, threads)
    for _ in range(MEMORY_STEPS):
        next(run)
    return peak_bytes()


def markdown(result: dict[str, Any]) -> str:
    """The table."""
    shape = result["shape"]
    lines = [
        "# What gates add to a training step",
        "",
        f"BERT of {shape['num_hidden_layers']} x {shape['hidden_size']} (all-MiniLM-L6-v2's shape, random weights), "
        f"LoRA of rank {result['lora_rank']}, {result['rows']} x {result['tokens']} tokens, {result['threads']} "
        f"threads, {result['processor']}. Steps of the trainer while gates are pressed: noise, penalty, correction, "
        "AdamW. The runs take turns step by step in one process; medians, 95 % intervals; peak memory is that of a "
        "whole process of its own, median of 3. `make bench-step` writes this page.",
        "",
        "| precision | layout | ms a step | time over LoRA alone | processor time over it | peak memory | over it |",
        "|---|---|---|---|---|---|---|",
    ]
    for precision, layouts in result["precisions"].items():
        for layout, cost in layouts.items():
            told = [told_ratio(cost[f"{name}_over_none"]) for name in ("seconds", "processor_seconds")]
            lines.append(
                f"| {precision} | {layout} | {1000 * cost['seconds']['median']:.1f} | {' | '.join(told)} "
                f"| {cost['peak_bytes'] / 2**20:.0f} MiB | {cost['peak_over_none']:.3f} |"
            )
    goals = result["goals"]
    missed = [
        f"{layout} in {precision}"
        for precision, layouts in result["precisions"].items()
        for layout, cost in layouts.items()
        if cost["seconds_over_none"]["median"] > goals["seconds"] or cost["peak_over_none"] > goals["peak_bytes"]
    ]
    lines += [
        "",
        f"The goal: at most {goals['seconds']:.2f} in time and {goals['peak_bytes']:.2f} in memory; "
        + (f"missed by {', '.join(missed)}." if missed else "met by all."),
    ]
    return "\n".join(lines) + "\n"


def told_ratio(ratio: dict[str, float]) -> str:
    """A ratio with its interval."""
    return (
        "1" if ratio["low"] == ratio["high"] else f"{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"
    )


if __name__ == "__main__":
    main()
