"""The model's replicas on a Ray cluster: started, asked, watched, stopped.

Ray Serve places the replicas, restarts those that die, adds and removes them with the load, and routes
batches to them. Its HTTP proxy is not used: it costs a call to another process per request, while this server makes one
per batch.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from finegates_export.deploy.serving.metrics import Metrics
from finegates_export.deploy.serving.model import Answer, Replica, ServedModel, Text
from finegates_export.deploy.serving.options import AUTO, ServeOptions
from finegates_export.deploy.serving.refusals import FAILED, UNAVAILABLE, Refused
from finegates_export.deploy.serving.replicas import BROKEN, DIED, TRIES, WAITING_A_REPLICA, Replicas
from finegates_export.errors import InputError, UnsupportedError, missing_extra

if TYPE_CHECKING:
    from ray.serve import Deployment
    from ray.serve.handle import DeploymentHandle

LOG = logging.getLogger("finegates.serving")
DEPLOYMENT = "Replica"
NAMESPACE = "finegates"
"""Where a cluster keeps the names of its servers."""
HEALTH_SECONDS = 2.0
CONNECT_SECONDS = 5.0
OLDEST = (2, 60)
"""Earlier versions of Ray run what anybody sends to a replica's port."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
SECURE = {"RAY_AUTH_MODE": "token"}
"""The nodes of the cluster need the same, and the same token."""
EVERYWHERE = "[::]"
"""Where Ray Serve opens a port for each replica."""


class ClusterReplica(Replica):
    """A replica in a process of Ray's; it is asked from other nodes, at the address that its node has for them."""

    def __init__(self, bundle: Path, options: ServeOptions, name: str) -> None:
        listen_on_node()
        super().__init__(bundle, options, name)


class RayReplicas(Replicas):
    """The running replicas.

    Args:
        handle: Ray Serve's handle of the deployment.
        name: the application's name.
        model: what clients are told.
        metrics: counts batches that are sent again.
    """

    def __init__(self, handle: DeploymentHandle, name: str, model: ServedModel, metrics: Metrics) -> None:
        self._handle, self._name, self.model, self._metrics = handle, name, model, metrics
        self._counted = 0
        self._counting: asyncio.Task[None] | None = None

    async def ask(self, texts: list[Text]) -> list[Answer]:
        """See `Replicas`. Prediction has no side effects, so a batch whose replica died goes to another one."""
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import RayServeException

        for _ in range(TRIES):
            try:
                answers: list[Answer] = await self._handle.answers.remote(texts)
            except RayTaskError as error:
                LOG.error("a replica failed on %d texts: %s", len(texts), error)
                raise Refused(FAILED, BROKEN) from error
            except (RayError, RayServeException) as error:
                LOG.warning("lost a replica: %s", error)
                self._metrics.resent()
            else:
                return answers
        raise Refused(UNAVAILABLE, DIED)

    def count(self) -> int:
        """See `Replicas`; as counted last, since the controller may take long to say."""
        return self._counted

    def scale(self) -> None:
        """Ray adds and removes replicas itself; count them."""
        if self._counting is None or self._counting.done():
            self._counting = asyncio.get_running_loop().create_task(self._count())

    async def close(self) -> None:
        """The cluster's application is deleted where `running_replicas` ends."""
        if self._counting is not None:
            self._counting.cancel()

    async def _count(self) -> None:
        try:
            self._counted = await asyncio.to_thread(self.count_now)
        except Exception as error:  # noqa: BLE001  # a controller that restarts must not end the watch
            LOG.warning("cannot count the replicas: %s", error)

    def count_now(self) -> int:
        """Ask Ray's controller, and wait for it."""
        from ray import serve

        status = serve.status().applications.get(self._name)
        deployment = status.deployments.get(DEPLOYMENT) if status else None
        # Ray declares enumeration members but returns their names, which compare equal
        states: dict[Any, int] = deployment.replica_states if deployment else {}
        self._counted = states.get("RUNNING", 0)
        return self._counted


@contextmanager
def running_replicas(options: ServeOptions, metrics: Metrics) -> Iterator[RayReplicas]:
    """Replicas, ready to answer, until the block ends.

    Raises:
        InputError: no such cluster, no token for it, not enough CPUs in it, another server of that name, or the model
            does not load there.
        UnsupportedError: the task cannot be served, or this version of Ray is not safe.
        MissingExtraError: Ray is not installed.
    """
    for variable, value in (QUIET | SECURE).items():
        os.environ.setdefault(variable, value)
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise missing_extra("ray", "serve-ray") from error
    check_version(version("ray"))
    # a cluster's processes have other working directories
    bundle = options.bundles[0].absolute()
    model = Replica(bundle, options, "".join(options.name)).model
    name = f"finegates-{model.name}"
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    _connect(ray, options)
    # Ray's own handler prints the stack of its C++ side
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        serve.start(proxy_location="Disabled", logging_config=_logs())
        _check_room(ray, options)
        held = _hold(ray, name)
        try:
            bound = _deployment(serve, options).bind(bundle, options, model.name)
            try:
                handle = serve.run(bound, name=name, route_prefix=None)
            except RuntimeError as error:
                raise InputError(f"the replicas did not start: {error}; see Ray's logs") from error
            replicas = RayReplicas(handle, name, model, metrics)
            replicas.count_now()
            yield replicas
        finally:
            _ = held
            serve.delete(name)  # the cluster would keep the replicas, however this ends
    finally:
        ray.shutdown()


def check_version(installed: str) -> None:
    """Refuse a Ray that unpickles what anybody sends.

    Raises:
        UnsupportedError: it is older than 2.60.
    """
    if tuple(map(int, installed.split(".")[:2])) < OLDEST:
        told = f"Ray {installed} runs code that anybody sends to its ports"
        raise UnsupportedError(f"{told}; run: pip install 'finegates-export[serve-ray]', which brings 2.60 or later")


def _connect(ray: ModuleType, options: ServeOptions) -> None:
    try:
        if options.address != AUTO:
            # Ray itself would retry for many minutes
            host, _, port = options.address.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address=options.address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        # a missing or wrong token, an unwritable home and a cluster that is not there have no common root
        told = " ".join(str(error).split())[:300]
        raise InputError(
            f"address {options.address}: no Ray cluster to join: {told}; start one with the same token "
            "(RAY_AUTH_TOKEN), or omit --address"
        ) from error


def listen_on_node() -> None:
    """Open the replica's port at its node's address instead of everywhere."""
    import ray

    replica: Any = import_module("ray.serve._private.replica")
    opens, host = replica.add_port_to_grpc_server, ray.util.get_node_ip_address()

    def opened(server: object, address: str) -> int:
        place = f"[{host}]" if ":" in host else host
        return int(opens(server, address.replace(EVERYWHERE, place)))

    replica.add_port_to_grpc_server = opened


class _Name:
    """A server's claim on a cluster, which Ray ends with the server's process."""


def _hold(ray: ModuleType, name: str) -> object:
    """Claim a name: a second server of the same name would replace the first one's model.

    Raises:
        InputError: a running server has it.
    """
    try:
        return ray.remote(num_cpus=0, max_restarts=-1)(_Name).options(name=name, namespace=NAMESPACE).remote()
    except ValueError as error:
        raise InputError(f"name: the cluster already serves {name}; choose another --name") from error


def _check_room(ray: ModuleType, options: ServeOptions) -> None:
    wanted, there = options.replicas * options.threads, ray.cluster_resources().get("CPU", 0)
    if wanted > there:
        raise InputError(
            f"{options.replicas} replicas of {options.threads} threads need {wanted} CPUs, but the cluster has "
            f"{there:g}; start fewer, or more nodes"
        )


def _deployment(serve: ModuleType, options: ServeOptions) -> Deployment:
    gpus = 0 if options.provider == "cpu" else 1
    settings: dict[str, object] = {
        "max_ongoing_requests": 2,
        "health_check_period_s": HEALTH_SECONDS,
        "graceful_shutdown_timeout_s": options.drain,
        "ray_actor_options": {"num_cpus": options.threads, "num_gpus": gpus},
        "logging_config": _logs(),
    }
    if options.most_replicas == options.replicas:
        settings["num_replicas"] = options.replicas
    else:
        settings["autoscaling_config"] = {
            "min_replicas": options.replicas,
            "max_replicas": options.most_replicas,
            "target_ongoing_requests": WAITING_A_REPLICA,
            "upscale_delay_s": 3.0,
            "downscale_delay_s": 60.0,
        }
    return serve.deployment(name=DEPLOYMENT, **settings)(ClusterReplica)


def _logs() -> dict[str, object]:
    return {"log_level": "ERROR", "enable_access_log": False}
