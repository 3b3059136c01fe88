"""How long an ordinary request takes while unfriendly clients are at the same server.

Each kind has a process of its own with many connections, which opens a new one for each that it loses.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from serving_facts import BODY, ask, server

CONNECTIONS = 1100
ASKED = 60
WARM_SECONDS = 7.0
HEAD = b"POST /predict HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(BODY)
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def nothing() -> Iterator[bytes]:
    """A connection that asks nothing."""
    yield b""


def drops() -> Iterator[bytes]:
    """A header, byte by byte."""
    yield b"GET /v2 HTTP/1.1\r\nX: "
    while True:
        yield b"a"


def half() -> Iterator[bytes]:
    """A body of which half is missing."""
    yield HEAD + BODY[: len(BODY) // 2]


def header() -> Iterator[bytes]:
    """A header of a hundred megabytes."""
    yield b"GET /v2 HTTP/1.1\r\nX: "
    for _ in range(1600):
        yield b"a" * 0x10000


def endless() -> Iterator[bytes]:
    """A body without end."""
    yield CHUNKED
    while True:
        yield b"10000\r\n" + b"a" * 0x10000 + b"\r\n"


def row() -> Iterator[bytes]:
    """Requests in a row, without waiting for answers."""
    while True:
        yield b"GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n" * 100


KINDS: dict[str, tuple[Callable[[], Iterator[bytes]], int, float]] = {
    "nobody else": (nothing, 0, 1.0),
    "idle": (nothing, CONNECTIONS, 1.0),
    "a header, byte by byte": (drops, CONNECTIONS, 1.0),
    "half a body": (half, CONNECTIONS, 1.0),
    "huge headers": (header, 16, 0.0),
    "bodies without end": (endless, 16, 0.0),
    "requests in a row": (row, 16, 0.0),
}
"""What they send, on how many connections, and seconds between two parts."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="what is served")
    parser.add_argument("--out", type=Path, help="results, a page")
    arguments = parser.parse_args()
    lines = [
        "# An ordinary request among unfriendly clients",
        "",
        "| other clients | connections | median, ms | longest, ms | not answered |",
        "|---|---|---|---|---|",
    ]
    with server(arguments.bundle, 1) as (url, _process):
        place = urlsplit(url)
        for name, (_, connections, _seconds) in KINDS.items():
            guests = multiprocessing.Process(target=visit, args=(str(place.hostname), int(place.port or 0), name))
            guests.start()
            time.sleep(WARM_SECONDS if connections else 0.0)
            seconds, lost = measured(url)
            guests.kill()
            guests.join()
            told = f"{1000 * statistics.median(seconds):.0f} | {1000 * max(seconds):.0f}" if seconds else "- | -"
            lines.append(f"| {name} | {connections:,} | {told} | {lost} of {ASKED} |")
            print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measured(url: str) -> tuple[list[float], int]:
    """Seconds of answered requests, and how many were not."""
    seconds, lost = [], 0
    for _ in range(ASKED):
        started = time.perf_counter()
        try:
            ask(url)
            seconds.append(time.perf_counter() - started)
        except OSError:
            lost += 1
    return seconds, lost


def visit(host: str, port: int, name: str) -> None:
    """Be the unfriendly clients until killed."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_visit(host, port, name))


async def _visit(host: str, port: int, name: str) -> None:
    parts, connections, pause = KINDS[name]

    async def one() -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection(host, port)
                for part in parts():
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(pause)
                await reader.read()
                writer.close()
            except OSError:
                await asyncio.sleep(0.1)

    await asyncio.gather(*(one() for _ in range(connections)))


if __name__ == "__main__":
    main()
