"""A served bundle under load: how much it answers at most, and whether it keeps answering right at 80 % of that.

The client stays on one core, the server with all its processes on another, and they talk over the loopback interface.
First pruned and unpruned take turns at full load; then the pruned one is asked at a steady rate for minutes, with texts
of all lengths, every answer compared with what `finegates_export.load` says of the same text.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from finegates_bench.measuring.stamp import make_stamp, stamp_line
from finegates_export import load
from finegates_export.common.files import write_json
from finegates_export.common.tasks import task_of
from finegates_export.errors import FineGatesError, MeasurementError

CLIENTS = 32
"""Connections at full load."""
QUESTIONS = 400
"""Different requests."""
SHARE = 0.8
WARM_SECONDS = 5.0
SAMPLE_SECONDS = 5.0
TOLERANCE = 1e-4
"""Between scores: a text's differ in the last digits with the texts that it is computed with."""
SEED = 0


class Question(NamedTuple):
    """A request and what must come back."""

    body: bytes
    answers: list[dict[str, Any]]


@dataclasses.dataclass
class Tally:
    """What came back."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    texts: int = 0
    wrong: int = 0
    lost: int = 0


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pruned", type=Path, required=True, help="a bundle")
    parser.add_argument("--unpruned", type=Path, required=True, help="a bundle")
    parser.add_argument("--rows", type=Path, required=True, help="TSV with sentence and label")
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix")
    parser.add_argument("--texts", type=int, default=1, help="texts a request")
    parser.add_argument("--rounds", type=int, default=3, help="turns at full load")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a turn")
    parser.add_argument("--minutes", type=float, default=10.0, help="at the steady rate")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("one core is the client's and one the server's; this machine lends one")
    stamp = dataclasses.asdict(dataclasses.replace(make_stamp(1), command="make bench-serving"))
    os.sched_setaffinity(0, cores[:1])
    try:
        result = {"stamp": stamp, **measure(arguments, cores[1])}
    except (FineGatesError, ValueError, OSError) as error:
        sys.exit(str(error))
    write_json(arguments.out.with_suffix(".json"), result)
    arguments.out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


def measure(arguments: argparse.Namespace, core: int) -> dict[str, Any]:
    """All of it; one server at a time, so that no other one's idle processes share its core."""
    bundles = {"unpruned": arguments.unpruned, "pruned": arguments.pruned}
    questions = {name: questions_of(bundle, arguments.rows, arguments.texts) for name, bundle in bundles.items()}
    turns: dict[str, list[float]] = {name: [] for name in bundles}
    wrong = lost = 0
    for _ in range(arguments.rounds):
        for name, bundle in bundles.items():
            with server(bundle, core) as (address, _process):
                asyncio.run(full_load(address, questions[name], WARM_SECONDS))
                tally = asyncio.run(full_load(address, questions[name], arguments.seconds))
            turns[name].append(tally.texts / arguments.seconds)
            wrong, lost = wrong + tally.wrong, lost + tally.lost
    peaks = {name: statistics.median(rates) for name, rates in turns.items()}
    rate = SHARE * peaks["pruned"] / arguments.texts
    with server(arguments.pruned, core) as (address, process):
        asyncio.run(full_load(address, questions["pruned"], WARM_SECONDS))
        tally, memory = asyncio.run(steady(address, questions["pruned"], rate, 60 * arguments.minutes, process))
    ratios = sorted(one / other for one, other in zip(turns["pruned"], turns["unpruned"], strict=True))
    held = {
        "minutes": arguments.minutes, "requests_per_second": rate, "requests": len(tally.seconds) + tally.lost,
        "wrong": tally.wrong, "lost": tally.lost, **quantiles(tally.seconds), **growth(memory),
    }  # fmt: skip
    return {
        "pruned": arguments.pruned.name, "unpruned": arguments.unpruned.name,
        "texts_per_request": arguments.texts, "rounds": arguments.rounds, "seconds": arguments.seconds,
        "clients": CLIENTS, "turns": turns, "peaks": peaks, "ratio": statistics.median(ratios), "ratios": ratios,
        "wrong_at_peak": wrong, "lost_at_peak": lost, "steady": held,
    }  # fmt: skip


def questions_of(bundle: Path, rows: Path, texts: int) -> list[Question]:
    """Requests with sentences of all lengths, some of several sentences, and what the runtime answers to them."""
    drawn = random.Random(SEED)  # noqa: S311  # no secret depends on it
    sentences = [line.rsplit("\t", 1)[0] for line in rows.read_text(encoding="utf-8").splitlines()[1:]]
    mixed = [" ".join(drawn.choices(sentences, k=drawn.choice((1, 1, 1, 2, 4)))) for _ in range(QUESTIONS * texts)]
    predictor = load(bundle, threads=1)
    task = task_of(predictor.task)
    answers = [task.as_json(found) for found in predictor.predict(mixed, batch_size=8)]
    return [
        Question(json.dumps({"texts": mixed[start : start + texts]}).encode(), answers[start : start + texts])
        for start in range(0, len(mixed), texts)
    ]


@contextmanager
def server(bundle: Path, core: int) -> Iterator[tuple[tuple[str, int], int]]:
    """A server on one core; its address and process."""
    command = [sys.executable, "-m", "finegates_export.deploy.serving.cli", str(bundle), "--port", "0", "--json"]
    pinned = {"preexec_fn": lambda: os.sched_setaffinity(0, [core])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **pinned)  # type: ignore[call-overload]
    try:
        told = "".join(itertools.takewhile(lambda line: line != "}\n", process.stdout))
        if not told:
            raise MeasurementError(f"finegates-serve {bundle} did not start")
        found = urlsplit(json.loads(told + "}")["url"])
        yield (str(found.hostname), int(found.port or 0)), process.pid
    finally:
        process.terminate()
        process.wait(60)


async def full_load(address: tuple[str, int], questions: list[Question], seconds: float) -> Tally:
    """Every connection asks again as soon as it is answered."""
    tally, end = Tally(), time.perf_counter() + seconds

    async def client(number: int) -> None:
        connection = Connection(address)
        while time.perf_counter() < end:
            await ask(connection, questions[number % len(questions)], time.perf_counter(), tally)
            number += CLIENTS
        connection.close()

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return tally


async def steady(
    address: tuple[str, int], questions: list[Question], rate: float, seconds: float, process: int
) -> tuple[Tally, list[int]]:
    """So many requests a second, whether earlier ones were answered or not; and the server's memory over the time."""
    tally, memory, free = Tally(), [], []
    waiting: set[asyncio.Task[None]] = set()
    drawn, start = random.Random(SEED), time.perf_counter()  # noqa: S311  # no secret depends on it

    async def one(question: Question, due: float) -> None:
        connection = free.pop() if free else Connection(address)
        await ask(connection, question, due, tally)
        free.append(connection)

    due, sample = start, start
    while due < start + seconds:
        due += drawn.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(drawn.choice(questions), due))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
        if due >= sample:
            memory.append(resident(process))
            sample += SAMPLE_SECONDS
    await asyncio.gather(*waiting)
    for connection in free:
        connection.close()
    return tally, memory


async def ask(connection: Connection, question: Question, due: float, tally: Tally) -> None:
    """One request; the time counts from when it was due."""
    try:
        status, body = await connection.post("/predict", question.body)
    except (OSError, ValueError, EOFError):
        tally.lost += 1
        connection.close()
        return
    tally.seconds.append(time.perf_counter() - due)
    tally.texts += len(question.answers)
    tally.lost += status != 200
    tally.wrong += status == 200 and not same(json.loads(body)["predictions"], question.answers)


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """Whether labels are equal and scores nearly so."""
    return len(found) == len(expected) and all(
        one.get("label") == other.get("label") and abs(one["score"] - other["score"]) < TOLERANCE
        for one, other in zip(found, expected, strict=True)
    )


class Connection:
    """A kept HTTP connection: the client has one core, and a library's client would take more of it.

    Args:
        address: host and port.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self._address, self._streams = address, None

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; one that the server hung up, as it does with idle ones, is renewed."""
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        writer.write(b"POST %b HTTP/1.1\r\nHost: server\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)))
        writer.write(body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        return int(head.split(" ", 2)[1]), await reader.readexactly(length)

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def resident(process: int) -> int:
    """Bytes that a process and all below it keep in memory for themselves."""
    import psutil

    top = psutil.Process(process)
    return sum(one.memory_full_info().uss for one in [top, *top.children(recursive=True)])


def growth(memory: list[int]) -> dict[str, float]:
    """Memory after a fifth of the time, at its end, and the share that came on top; medians of a fifth each."""
    fifth = max(1, len(memory) // 5)
    early, late = statistics.median(memory[fifth : 2 * fifth] or memory), statistics.median(memory[-fifth:])
    return {"memory_early_mb": early / 2**20, "memory_late_mb": late / 2**20, "memory_growth": late / early - 1}


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Median, 99th percentile and the worst, in milliseconds."""
    ordered = sorted(seconds)
    last = len(ordered) - 1
    places = {"p50_ms": 0.5, "p99_ms": 0.99, "worst_ms": 1.0}
    return {name: 1000 * ordered[round(place * last)] for name, place in places.items()}


def markdown(result: dict[str, Any]) -> str:
    """The page."""
    stamp, held = result["stamp"], result["steady"]
    peaks, turns = result["peaks"], result["turns"]
    lines = [
        "# Serving under load",
        "",
        f"`finegates-serve` with one replica on one core, the client on another; {result['texts_per_request']} text(s) "
        f"a request, {result['clients']} connections. Each at full load {result['rounds']} times for "
        f"{result['seconds']:g} seconds, in turns; medians.",
        "",
        "| bundle | texts a second at most | turns |",
        "|---|---|---|",
        *(f"| {name} | {peaks[name]:.1f} | {', '.join(f'{rate:.1f}' for rate in turns[name])} |" for name in peaks),
        "",
        f"Pruned over unpruned: {result['ratio']:.2f}. Wrong answers: {result['wrong_at_peak']}, lost: "
        f"{result['lost_at_peak']}.",
        "",
        f"Then the pruned one for {held['minutes']:g} minutes at {100 * SHARE:.0f} % of its most, "
        f"{held['requests_per_second']:.1f} requests a second, sent at random moments:",
        "",
        "| requests | wrong | lost | median, ms | 99 %, ms | longest, ms | memory early, MB | late, MB | growth |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| {held['requests']:,} | {held['wrong']} | {held['lost']} | {held['p50_ms']:.1f} | {held['p99_ms']:.1f} | "
        f"{held['worst_ms']:.1f} | {held['memory_early_mb']:.0f} | {held['memory_late_mb']:.0f} | "
        f"{100 * held['memory_growth']:.1f} % |",
        "",
    ]  # fmt: skip
    return "\n".join([*lines, stamp_line(stamp)]) + "\n"


if __name__ == "__main__":
    main()
