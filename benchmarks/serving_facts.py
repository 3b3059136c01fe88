"""A served bundle beside the load: seconds to its first answer, memory, open ports, and workers that are killed.

`--make` writes bundles of MiniLM's shape with random weights, which is all that this needs: one with every gate open,
and one of which a share is removed.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil

from bert_base import SIZES, close, write_base, write_open_run
from finegates_bench.measuring.stamp import make_stamp, stamp_line
from finegates_export.common.files import write_json
from finegates_export.errors import MeasurementError

COMMAND = [sys.executable, "-m", "finegates_export.deploy.serving.cli"]
BODY = json.dumps({"texts": ["word7 word8 word9 " * 8]}).encode()
STARTS = 5
CLIENTS = 16
MOST_SECONDS = 120.0
MIB = 1 << 20


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="what is served")
    parser.add_argument("--make", action="store_true", help="write it first, and an unpruned one beside it")
    parser.add_argument("--kills", type=int, default=200, help="workers to kill under load")
    parser.add_argument("--out", type=Path, help="results, without suffix")
    arguments = parser.parse_args()
    if arguments.make:
        make(arguments.bundle)
    stamp = dataclasses.asdict(dataclasses.replace(make_stamp(1), command="make bench-serving-facts"))
    found = {
        "stamp": stamp, "starts": starts(arguments.bundle), "alone": held(arguments.bundle, 1),
        "workers": held(arguments.bundle, 2), "killed": asyncio.run(killed(arguments.bundle, arguments.kills)),
    }  # fmt: skip
    print(markdown(found))
    if arguments.out:
        write_json(arguments.out.with_suffix(".json"), found)
        arguments.out.with_suffix(".md").write_text(markdown(found), encoding="utf-8")


def make(bundle: Path) -> None:
    """A bundle of MiniLM's shape, a share of it removed; and the whole one, `unpruned` beside it."""
    from finegates_export import ExportOptions, export

    work = bundle.parent
    write_base(work / "base", **SIZES["6x384"])
    write_open_run(work / "open", work / "base")
    close(work / "open", work / "closed")
    for file in (work / "base").glob("tokenizer*"):
        shutil.copy(file, work / "closed")
    for run, out in (("closed", bundle), ("open", work / "unpruned")):
        export(ExportOptions(ckpt=work / run, base=str(work / "base"), out=out, overwrite=True))


@contextmanager
def server(bundle: Path, replicas: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server on a free port that has answered once; its URL and process."""
    command = [*COMMAND, str(bundle), "--port", "0", "--replicas", str(replicas), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        told = ""
        for line in process.stdout or ():
            told += line
            if line == "}\n":
                break
        if not told:
            raise MeasurementError(f"finegates-serve {bundle} did not start")
        url = json.loads(told)["url"]
        ask(url)
        yield url, process
    finally:
        process.terminate()
        process.wait(60)


def ask(url: str) -> int:
    """The status of one request."""
    request = Request(f"{url}/predict", BODY)  # noqa: S310  # the URL is the server's own
    with urlopen(request, timeout=60) as answer:  # noqa: S310  # as above
        answer.read()
        return int(answer.status)


def starts(bundle: Path) -> list[float]:
    """Seconds from the command to its first answer, several times."""
    found = []
    for _ in range(STARTS):
        started = time.perf_counter()
        with server(bundle, 1):
            found.append(time.perf_counter() - started)
    return found


def held(bundle: Path, replicas: int) -> dict[str, Any]:
    """Memory after some requests, in MB, and the ports that are open."""
    with server(bundle, replicas) as (url, process):
        for _ in range(50):
            ask(url)
        top = psutil.Process(process.pid)
        every = [top, *top.children(recursive=True)]
        ports = [f"{c.laddr.ip}:{c.laddr.port}" for one in every for c in one.net_connections("inet") if not c.raddr]
        sizes = {"server": [top], "workers": every[1:], "all": every}
        return {
            "ports": ports,
            "resident_mb": {name: sum(one.memory_info().rss for one in them) / MIB for name, them in sizes.items()},
            "own_mb": {name: sum(one.memory_full_info().uss for one in them) / MIB for name, them in sizes.items()},
        }


async def killed(bundle: Path, kills: int) -> dict[str, Any]:
    """How requests end while workers are killed at random, one after another."""
    with server(bundle, 2) as (url, process):
        over, statuses = asyncio.Event(), Counter[str]()
        clients = [asyncio.create_task(_client(url, over, statuses)) for _ in range(CLIENTS)]
        drawn, done = random.Random(0), 0  # noqa: S311  # no secret depends on it
        end = time.monotonic() + MOST_SECONDS + 3 * kills
        while done < kills and time.monotonic() < end:
            await asyncio.sleep(0.2 + drawn.random())
            workers = [one for one in psutil.Process(process.pid).children() if "multiprocessing-fork" in line(one)]
            if workers:
                os.kill(drawn.choice(workers).pid, signal.SIGKILL)
                done += 1
        over.set()
        await asyncio.gather(*clients)
        return {"kills": done, "statuses": dict(statuses), "answers_afterwards": ask(url)}


def line(process: psutil.Process) -> str:
    """The command of a process; empty if it ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


async def _client(url: str, over: asyncio.Event, statuses: Counter[str]) -> None:
    while not over.is_set():
        try:
            statuses[str(await asyncio.to_thread(ask, url))] += 1
        except URLError as error:
            statuses[str(getattr(error, "code", "lost"))] += 1
        except OSError:
            statuses["lost"] += 1


def markdown(found: dict[str, Any]) -> str:
    """The page."""
    alone, workers, killed_ = found["alone"], found["workers"], found["killed"]
    statuses = ", ".join(f"{count:,} with {status}" for status, count in sorted(killed_["statuses"].items()))
    lines = [
        "# A server beside its load",
        "",
        f"Seconds from the command to the first answer: {statistics.median(found['starts']):.2f} (median of "
        f"{len(found['starts'])}, {min(found['starts']):.2f} to {max(found['starts']):.2f}).",
        "",
        "| | server, MB | its workers, MB | all, MB | of these shared with nobody, MB | open ports |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in (("one process", alone), ("two workers", workers)):
        sizes = one["resident_mb"]
        lines.append(
            f"| {name} | {sizes['server']:.0f} | {sizes['workers']:.0f} | {sizes['all']:.0f} | "
            f"{one['own_mb']['all']:.0f} | {', '.join(one['ports'])} |"
        )
    told = f"{killed_['kills']} workers killed under the load of {CLIENTS} clients: {statuses}."
    return "\n".join([*lines, "", told, "", stamp_line(found["stamp"])]) + "\n"


if __name__ == "__main__":
    main()
