"""The models of one server, by name: started, replaced while they serve, ended."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from finegates_export.deploy.serving.batches import Batches
from finegates_export.deploy.serving.metrics import Metrics
from finegates_export.deploy.serving.model import ServedModel, bundle_digest
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.deploy.serving.replicas import OwnReplica, Replicas, Workers
from finegates_export.errors import FineGatesError, InputError

LOG = logging.getLogger("finegates.serving")
WATCH_SECONDS = 1.0


@dataclass(eq=False)
class Served:
    """One model that is served."""

    replicas: Replicas
    batches: Batches

    @property
    def model(self) -> ServedModel:
        """What clients are told."""
        return self.replicas.model

    async def retire(self, seconds: float) -> None:
        """End the replicas once they have answered what they have, or after so many seconds."""
        await self.batches.finished(seconds)
        await self.replicas.close()


class Models:
    """All models of a server.

    Args:
        options: the server's options.
        metrics: counts for all of them.
    """

    def __init__(self, options: ServeOptions, metrics: Metrics) -> None:
        self._options, self._metrics = options, metrics
        self._bundles: dict[str, Path] = {}
        self._served: dict[str, Served] = {}
        self._seen: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._replacing: set[str] = set()
        every = self._served.values
        metrics.watch("waiting_texts", "Texts waiting for a replica.", lambda: sum(e.batches.waiting for e in every()))
        metrics.watch("replicas", "Replicas ready to answer.", lambda: sum(e.replicas.count() for e in every()))

    async def start(self, running: Replicas | None = None) -> None:
        """Load every bundle.

        Args:
            running: the replicas of the one bundle, where a cluster has them already.

        Raises:
            InputError: a bundle or the provider cannot be used, or two models have one name.
            UnsupportedError: a task cannot be served.
        """
        names = self._options.name or ("",) * len(self._options.bundles)
        for bundle, name in zip(self._options.bundles, names, strict=True):
            replicas = running or await self._replicas(bundle, name)
            told = replicas.model.name
            if told in self._served:
                await replicas.close()
                raise InputError(f"name: two bundles would be called {told}; give each a name with --name")
            self._bundles[told], self._seen[told] = bundle, replicas.model.digest
            self._served[told] = self._gathered(replicas)

    def names(self) -> tuple[str, ...]:
        """The models' names, in the order of the bundles."""
        return tuple(self._served)

    def served(self, name: str) -> Served:
        """A model as it is served now."""
        return self._served[name]

    def ready(self) -> bool:
        """Whether every model has a replica."""
        return all(served.replicas.count() for served in self._served.values())

    def replace_all(self) -> None:
        """Load every bundle again, as SIGHUP asks."""
        for name in self._served:
            self.replace(name)

    def replace(self, name: str) -> None:
        """Load a bundle again while the old one serves; one that cannot be used leaves the old one in place."""
        if self._options.address:
            LOG.error("%s: a server on a cluster replaces no bundle; start another one", name)
            return
        if name in self._replacing:
            return
        self._replacing.add(name)
        task = asyncio.get_running_loop().create_task(self._replaced(name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._replacing.discard(name))

    async def watch(self) -> None:
        """Once a second: count replicas, add and remove some, and look for bundles that changed."""
        while True:
            for served in tuple(self._served.values()):
                served.batches.replicas = served.replicas.count()
                served.replicas.scale()
            for name, bundle in self._bundles.items() if self._options.watch else ():
                digest = bundle_digest(bundle)
                if digest not in ("", self._seen[name]):
                    self._seen[name] = digest
                    self.replace(name)
            await asyncio.sleep(WATCH_SECONDS)

    async def close(self) -> None:
        """End all replicas."""
        for task in tuple(self._tasks):
            task.cancel()
        for served in self._served.values():
            await served.replicas.close()

    async def _replaced(self, name: str) -> None:
        old = self._served[name]
        try:
            new = await self._replicas(self._bundles[name], name)
        except FineGatesError as error:
            LOG.error("%s is not replaced: %s", name, error)
            return
        if type(new.model.task) is not type(old.model.task):  # workers send copies
            LOG.error("%s is not replaced: its task is %s, not %s", name, new.model.task.name, old.model.task.name)
            await new.close()
            return
        self._seen[name] = new.model.digest
        self._served[name] = self._gathered(new)
        LOG.warning("%s is replaced by what %s holds now", name, self._bundles[name])
        retiring = asyncio.create_task(old.retire(self._options.drain))
        self._tasks.add(retiring)
        retiring.add_done_callback(self._tasks.discard)

    async def _replicas(self, bundle: Path, name: str) -> Replicas:
        if self._options.most_replicas == 1:
            return await OwnReplica.started(bundle, self._options, name)
        workers = Workers(bundle, self._options, name, self._metrics, self.replace)
        try:
            await workers.start()
        except BaseException:
            await workers.close()
            raise
        return workers

    def _gathered(self, replicas: Replicas) -> Served:
        batches = Batches(replicas.ask, self._options, self._metrics)
        batches.replicas = replicas.count()
        return Served(replicas, batches)
