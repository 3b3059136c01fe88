"""Three runs over one base, exported together and one by one: seconds and peak memory of whole processes.

The base is a random-weight BERT of 6 x 384; the runs are closed to three shares by weight magnitude. Three ways take
turns: a command for each run, one process that reads the base for every run, and one command for all of them. The
bundles of all three must be the same, byte for byte.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finegates_export.common.files import sha256_tree, write_json
from finegates_export.errors import FineGatesError, MeasurementError

SHAPE = {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
SHARES = {"fifth": 0.2, "two-fifths": 0.4, "three-fifths": 0.6}
"""Removed shares, by the name of the run."""
WAYS = {
    "apart": "three commands, one after the other",
    "one process": "one process, the base read for every run",
    "together": "one command, the base read once",
}
IDLE_LOAD = 0.5
"""Load average above which the page says that the machine was busy."""
KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Used:
    """What processes used."""

    seconds: float
    processor_seconds: float
    """Of all threads; what else the machine does hardly changes them."""
    peak: int
    """Resident bytes of the largest process."""

    @classmethod
    def in_turn(cls, each: list[Used]) -> Used:
        """Of processes one after the other."""
        return cls(
            sum(used.seconds for used in each),
            sum(used.processor_seconds for used in each),
            max(used.peak for used in each),
        )

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.processor_seconds:.1f} s of processors, {self.peak / MIB:.0f} MiB"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where base, runs and bundles go")
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--step", choices=("prepare", "one-process"), help="what this script starts itself for")
    arguments = parser.parse_args()
    try:
        if arguments.step == "prepare":
            prepare(arguments.work)
        elif arguments.step == "one-process":
            export_each(arguments.work, arguments.threads)
        else:
            result = measure(arguments)
            write_json(arguments.out.with_suffix(".json"), result)
            arguments.out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
            print(markdown(result))
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))


def prepare(work: Path) -> None:
    """Base and runs; in a process of its own, as the one that measures must stay small."""
    from bert_base import write_base, write_open_run
    from finegates_bench.measuring.what_if import WhatIf
    from finegates_export.graphs.targets import ort_cpu
    from finegates_export.sources.assemble import base_of
    from finegates_export.sources.run_folder import read_run

    shutil.rmtree(work, ignore_errors=True)
    write_base(work / "base", **SHAPE)
    write_open_run(work / "open", work / "base")
    whole = read_run(work / "open")
    what_if = WhatIf(whole, base_of(whole), ort_cpu.WIDTHS)
    for name, share in SHARES.items():
        what_if.write(share, work / "runs" / name)


def export_each(work: Path, threads: int) -> None:
    """Every run in this process, each with a base of its own."""
    from finegates_export import ExportOptions, export

    for name in SHARES:
        out = work / "bundles" / "one process" / name
        export(ExportOptions(ckpt=work / "runs" / name, out=out, threads=threads, overwrite=True))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All ways in turns, `rounds` times."""
    from finegates_bench.measuring.stamp import make_stamp

    busy = os.getloadavg()[0]
    run_process(own_command(arguments, "prepare"))
    measured: dict[str, list[Used]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way in WAYS:
            used = Used.in_turn([run_process(command) for command in commands(way, arguments)])
            measured[way].append(used)
            print(f"{way}: {used}", file=sys.stderr)
    hashes = {way: sha256_tree(arguments.work / "bundles" / way) for way in WAYS}
    if any(one != hashes["apart"] for one in hashes.values()):
        raise MeasurementError("the bundles differ between the ways of exporting; please report this")
    return {
        "stamp": dataclasses.asdict(dataclasses.replace(make_stamp(arguments.threads), command="make bench-many")),
        "base_bytes": (arguments.work / "base" / "model.safetensors").stat().st_size,
        "load_before": round(busy, 2),
        "runs": len(SHARES),
        "rounds": arguments.rounds,
        "files_compared": len(hashes["apart"]),
        "ways": {
            way: {
                "seconds": round(statistics.median(used.seconds for used in rounds), 2),
                "processor_seconds": round(statistics.median(used.processor_seconds for used in rounds), 2),
                "peak_memory_bytes": round(statistics.median(used.peak for used in rounds)),
                "rounds": [dataclasses.asdict(used) for used in rounds],
            }
            for way, rounds in measured.items()
        },
    }


def commands(way: str, arguments: argparse.Namespace) -> list[list[str]]:
    """What is started for one way, one after the other."""
    runs = [str(arguments.work / "runs" / name) for name in SHARES]
    out = arguments.work / "bundles" / way
    export = [str(Path(sys.executable).parent / "finegates-export"), "--quiet", "--overwrite"]
    export += ["--threads", str(arguments.threads)]
    if way == "apart":
        return [[*export, "--ckpt", run, "--out", str(out / Path(run).name)] for run in runs]
    if way == "together":
        return [[*export, "--ckpt", *runs, "--out", str(out)]]
    return [own_command(arguments, "one-process")]


def own_command(arguments: argparse.Namespace, step: str) -> list[str]:
    """This script, for one step."""
    given = ["--work", str(arguments.work), "--out", str(arguments.out), "--threads", str(arguments.threads)]
    return [sys.executable, __file__, *given, "--step", step]


def run_process(command: list[str]) -> Used:
    """What a process uses from its start to its end."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise MeasurementError(f"{' '.join(command)} ended with status {process.returncode}")
    return Used(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * KIB)


def markdown(result: dict[str, Any]) -> str:
    """The table."""
    stamp = result["stamp"]
    lines = [
        "# Many runs, one base",
        "",
        f"{result['runs']} runs of a random-weight BERT of 6 x 384 ({result['base_bytes'] / MIB:.0f} MiB), exported to "
        f"bundles; medians of {result['rounds']} rounds in turns, {stamp['threads']} threads. Seconds and peak "
        "resident memory are those of whole processes, imports and all; of three commands the memory is the largest "
        f"one's. All {result['files_compared']} files are the same bytes each way.",
        "",
        "| way | seconds | processor seconds | peak memory, MiB |",
        "|---|---|---|---|",
    ]
    for way, told in WAYS.items():
        one = result["ways"][way]
        peak = one["peak_memory_bytes"] / MIB
        lines.append(f"| {told} | {one['seconds']:.1f} | {one['processor_seconds']:.1f} | {peak:.0f} |")
    names = ", ".join(f"{name} {version}" for name, version in stamp["versions"].items())
    lines += ["", f"`{stamp['command']}`, {stamp['date']}, {stamp['processor']}, {stamp['cores']} cores; {names}."]
    if result["load_before"] > IDLE_LOAD:
        lines += [
            "",
            f"Other programs were running (load average {result['load_before']} before the start): the clock's seconds "
            "are inflated, those of the processors nearly not.",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
