"""Gathering texts of many requests into batches, so that one call to a replica serves many of them.

A call to another process is paid once per batch, not per request. While every replica is busy, texts gather: the higher
the load, the larger the batches, without waiting on a timer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from finegates_export.deploy.serving.metrics import Metrics
from finegates_export.deploy.serving.model import Answer, Text
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.deploy.serving.refusals import FAILED, TOO_LATE, TOO_MANY, Refused

LOG = logging.getLogger("finegates.serving")
AHEAD = 2
"""Batches that a replica holds at once: one being computed, one ready."""


@dataclass(eq=False)
class _Request:
    texts: Sequence[Text]
    done: asyncio.Future[None]
    missing: int
    answers: dict[int, Answer] = field(default_factory=dict)


class Batches:
    """Gathers texts and hands out answers. Belongs to one event loop.

    Args:
        ask: answers a batch in order; raises `Refused`.
        options: the server's options.
        metrics: counts every batch.
    """

    def __init__(
        self, ask: Callable[[list[Text]], Awaitable[list[Answer]]], options: ServeOptions, metrics: Metrics
    ) -> None:
        self._ask, self._options, self._metrics = ask, options, metrics
        self._waiting: deque[tuple[_Request, int]] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._clock: asyncio.TimerHandle | None = None
        self.replicas = options.replicas
        """Number of replicas that can answer, as last counted."""

    @property
    def waiting(self) -> int:
        """Texts waiting for a replica."""
        return len(self._waiting)

    @property
    def most_flights(self) -> int:
        """Maximum number of batches in flight.

        The replicas' capacity, plus one replica's capacity if another may be added: one is added when batches are
        seen to wait.
        """
        one_more = self._options.max_replicas > self.replicas
        return AHEAD * (max(1, self.replicas) + one_more)

    async def answers(self, texts: Sequence[Text]) -> list[Answer]:
        """One answer per text of a request.

        Raises:
            Refused: too many texts wait, no answer came in time, or the replicas failed.
        """
        limit = self._options.queue
        if self.waiting + len(texts) > limit:
            raise Refused(
                TOO_MANY,
                f"{self.waiting} texts wait, and {len(texts)} more would exceed the limit of {limit}; try again",
            )
        if not texts:
            return []
        request = _Request(texts, asyncio.get_running_loop().create_future(), len(texts))
        self._waiting.extend((request, number) for number in range(len(texts)))
        self._start()
        try:
            await asyncio.wait_for(request.done, self._options.timeout)
        except asyncio.TimeoutError as error:
            self._waiting = deque(one for one in self._waiting if one[0] is not request)
            raise Refused(TOO_LATE, f"no answer within the limit of {self._options.timeout:g} seconds") from error
        return [request.answers[number] for number in range(len(texts))]

    async def finished(self, seconds: float) -> None:
        """Wait until nothing is left to answer, at most so many seconds."""
        end = time.monotonic() + seconds
        while (self._waiting or self._flights) and time.monotonic() < end:
            if self._flights:
                await asyncio.wait(self._flights, timeout=end - time.monotonic())
            else:  # they wait for the clock of --batch-wait
                await asyncio.sleep(self._options.batch_wait / 1000)

    def _start(self) -> None:
        """Send as many batches as the limit allows."""
        while self._waiting and len(self._flights) < self.most_flights:
            if self._options.batch_wait and self.waiting < self._options.batch:
                if self._clock is None:
                    seconds = self._options.batch_wait / 1000
                    self._clock = asyncio.get_running_loop().call_later(seconds, self._waited)
                return
            self._send()

    def _waited(self) -> None:
        self._clock = None
        if self._waiting and len(self._flights) < self.most_flights:
            self._send()

    def _send(self) -> None:
        batch: list[tuple[_Request, int]] = []
        while self._waiting and len(batch) < self._options.batch:
            request, number = self._waiting.popleft()
            if not request.done.done():
                batch.append((request, number))
        if not batch:
            return
        flight = asyncio.create_task(self._fly(batch))
        self._flights.add(flight)
        flight.add_done_callback(self._landed)

    async def _fly(self, batch: list[tuple[_Request, int]]) -> None:
        started = time.perf_counter()
        try:
            texts = [request.texts[number] for request, number in batch]
            found = await asyncio.wait_for(self._ask(texts), self._options.timeout)
            if len(found) != len(batch):
                raise Refused(FAILED, f"{len(found)} answers came for {len(batch)} texts")
        except Refused as error:
            return _fail(batch, error)
        except asyncio.TimeoutError:
            return _fail(batch, Refused(TOO_LATE, f"no answer within the limit of {self._options.timeout:g} seconds"))
        except Exception:  # whatever happened, no request may wait forever
            LOG.exception("a batch of %d texts failed", len(batch))
            return _fail(batch, Refused(FAILED, "the server failed; see its log"))
        self._metrics.batch(len(batch), time.perf_counter() - started)
        for (request, number), answer in zip(batch, found, strict=True):
            request.answers[number] = answer
            request.missing -= 1
            if not request.missing and not request.done.done():
                request.done.set_result(None)

        return None

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        self._start()


def _fail(batch: list[tuple[_Request, int]], told: Refused) -> None:
    for request in {request for request, _ in batch}:
        if not request.done.done():
            request.done.set_exception(told)
