"""A model's replicas on this machine: one in the server's process, or several in a process each.

Each process is a `concurrent.futures.ProcessPoolExecutor` of its own, so one that dies breaks no other.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

from finegates_export.deploy.serving import worker
from finegates_export.deploy.serving.metrics import Metrics
from finegates_export.deploy.serving.model import Answer, Replica, ServedModel, Text
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.deploy.serving.refusals import FAILED, UNAVAILABLE, Refused
from finegates_export.errors import InputError

LOG = logging.getLogger("finegates.serving")
TRIES = 2
"""A batch whose replica died goes to another one; where that dies too, the batch may be what kills them."""
START_AGAIN_SECONDS = 1.0
"""Between tries to replace a worker that does not start."""
DIED = f"{TRIES} replicas died on these texts"
WAITING_A_REPLICA = 1.5
"""Average batches per replica above which another one starts: more than the one being computed."""
ADD_SECONDS, REMOVE_SECONDS = 3, 60
HANGS = 0.9
"""The share of `--timeout` without any answer after which a worker counts as hanging."""
BROKEN = "the model failed; see the server's log"


class Replicas(ABC):
    """The running replicas of one model."""

    model: ServedModel
    """What clients are told of it."""

    @abstractmethod
    async def ask(self, texts: list[Text]) -> list[Answer]:
        """A replica's answers.

        Raises:
            Refused: the model failed, or replicas died twice.
        """

    @abstractmethod
    def count(self) -> int:
        """Number of replicas that can answer now."""

    @abstractmethod
    async def close(self) -> None:
        """End them."""

    def scale(self) -> None:  # noqa: B027  # most have a fixed number
        """Add or remove replicas as the load asks; called once a second."""


class OwnReplica(Replicas):
    """One replica in the server's process: onnxruntime works outside Python's lock.

    Args:
        pool: its one thread.
        replica: the model, loaded.
    """

    def __init__(self, pool: ThreadPoolExecutor, replica: Replica) -> None:
        self._pool, self._replica, self.model = pool, replica, replica.model

    @classmethod
    async def started(cls, bundle: Path, options: ServeOptions, name: str) -> OwnReplica:
        """One that is ready to answer.

        Raises:
            InputError: see `Replica`.
            UnsupportedError: the same.
        """
        pool = ThreadPoolExecutor(1, "replica")
        return cls(pool, await asyncio.get_running_loop().run_in_executor(pool, Replica, bundle, options, name))

    async def ask(self, texts: list[Text]) -> list[Answer]:
        """See `Replicas`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._replica.answers, texts)
        except Exception as error:
            # onnxruntime's and the tokenizer's errors have no common root
            LOG.exception("the model failed on %d texts", len(texts))
            raise Refused(FAILED, BROKEN) from error

    def count(self) -> int:
        """See `Replicas`."""
        return 1

    async def close(self) -> None:
        """See `Replicas`."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Worker:
    """One worker process."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=worker.prepare)
        self._pid, self._heard = 0, 0.0
        self.flights = 0
        """Batches it has."""

    async def start(self, bundle: Path, options: ServeOptions, name: str) -> ServedModel:
        """Load the model.

        Raises:
            InputError: see `Replica`, or the process died.
            UnsupportedError: see `Replica`.
        """
        try:
            model, self._pid = await asyncio.wrap_future(self._pool.submit(worker.start, bundle, options, name))
        except BrokenExecutor as error:
            self.end()
            raise InputError(f"a worker died while it loaded {bundle}; is there enough memory?") from error
        except BaseException:
            self.end()
            raise
        return model

    async def answers(self, texts: list[Text]) -> list[Answer]:
        """One answer per text."""
        try:
            answer = self._pool.submit(worker.answers, texts)
        except RuntimeError as error:  # it ended between the choice and the call
            raise BrokenExecutor(str(error)) from error
        self.flights += 1
        self._heard = max(self._heard, time.monotonic() if self.flights == 1 else 0.0)
        try:
            return await asyncio.wrap_future(answer)
        finally:
            self.flights -= 1
            if answer.done() and not answer.cancelled():
                self._heard = time.monotonic()

    def silent(self) -> float:
        """Seconds since it last answered, or was given its first batch."""
        return time.monotonic() - self._heard

    def end(self) -> None:
        """End the process, whatever it does: nobody waits for it any more."""
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._pid = 0
        self._pool.shutdown(wait=False)  # what it had is told that it broke, and goes to another one


class Workers(Replicas):
    """Replicas in worker processes, replaced when they die or do not answer in time.

    Args:
        bundle: the folder.
        options: the server's options.
        name: the model's name.
        metrics: counts batches that are sent again.
        changed: called where the bundle is no longer the one that the other replicas loaded.
    """

    def __init__(
        self, bundle: Path, options: ServeOptions, name: str, metrics: Metrics, changed: Callable[[str], object]
    ) -> None:
        self._bundle, self._options, self._name = bundle, options, name
        self._metrics, self._changed = metrics, changed
        self._workers: list[Worker] = []
        self._starting: set[asyncio.Task[None]] = set()
        self._alive = asyncio.Event()
        self._closed = False
        self._busy = self._idle = 0

    async def start(self) -> None:
        """Start the least number; the first one alone, as it says what the others would say too.

        Raises:
            InputError: see `Worker.start`.
            UnsupportedError: see `Replica`.
        """
        first = Worker()
        self.model = await first.start(self._bundle, self._options, self._name)
        self._add(first)
        more = [Worker() for _ in range(self._options.replicas - 1)]
        await asyncio.gather(*(one.start(self._bundle, self._options, self._name) for one in more))
        for one in more:
            self._add(one)

    async def ask(self, texts: list[Text]) -> list[Answer]:
        """See `Replicas`. Prediction has no side effects, so a batch whose worker died goes to another one."""
        for _ in range(TRIES):
            chosen = await self._free()
            try:
                return await chosen.answers(texts)
            except asyncio.CancelledError:  # out of time
                if chosen.silent() >= HANGS * self._options.timeout:
                    LOG.warning("a replica does not answer")
                    self._replace(chosen)
                raise
            except BrokenExecutor as error:
                LOG.warning("lost a replica: %s", error)
                self._metrics.resent()
                self._replace(chosen)
            except Exception as error:
                LOG.exception("a replica failed on %d texts", len(texts))
                raise Refused(FAILED, BROKEN) from error
        raise Refused(UNAVAILABLE, DIED)

    def count(self) -> int:
        """See `Replicas`."""
        return len(self._workers)

    async def close(self) -> None:
        """See `Replicas`."""
        self._closed = True
        for task in self._starting:
            task.cancel()
        for one in self._workers:
            one.end()
        self._workers.clear()

    def scale(self) -> None:
        """See `Replicas`."""
        count = len(self._workers)
        flights = sum(one.flights for one in self._workers)
        self._busy = self._busy + 1 if flights > WAITING_A_REPLICA * count else 0
        self._idle = self._idle + 1 if flights < WAITING_A_REPLICA * (count - 1) else 0
        if self._busy >= ADD_SECONDS and count + len(self._starting) < self._options.most_replicas:
            self._busy = 0
            self._start_one()
        idle = [one for one in self._workers if not one.flights]
        if self._idle >= REMOVE_SECONDS and count > self._options.replicas and idle:
            self._idle = 0
            self._workers.remove(idle[0])
            idle[0].end()

    async def _free(self) -> Worker:
        """The worker with the fewest batches, as soon as there is one."""
        while not self._workers:
            await self._alive.wait()
        return min(self._workers, key=lambda one: one.flights)

    def _add(self, one: Worker) -> None:
        self._workers.append(one)
        self._alive.set()

    def _replace(self, lost: Worker) -> None:
        """Another process in place of this one."""
        if lost not in self._workers:
            return  # another of its batches was first
        self._workers.remove(lost)
        lost.end()
        if not self._workers:
            self._alive.clear()
        if not self._closed:
            self._start_one()

    def _start_one(self) -> None:
        task = asyncio.create_task(self._started_again())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _started_again(self) -> None:
        while True:
            one = Worker()
            try:
                model = await one.start(self._bundle, self._options, self._name)
            except Exception as error:  # noqa: BLE001  # whatever it was may pass; the others answer meanwhile
                LOG.error("a replica does not start: %s", error)
                await asyncio.sleep(START_AGAIN_SECONDS)
                continue
            if model.digest == self.model.digest:
                return self._add(one)
            one.end()
            self._changed(self._name)
            await asyncio.sleep(START_AGAIN_SECONDS)
