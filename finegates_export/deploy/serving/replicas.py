"""The model's replicas on Ray Serve: started, asked, watched, stopped.

Ray Serve places the replicas, restarts those that die, adds and removes them with the load, and routes
batches to them. Its HTTP proxy is not used: it costs a call to another process per request, while this server makes one
per batch.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from finegates_export.deploy.serving.metrics import Metrics
from finegates_export.deploy.serving.model import Answer, Replica, Text
from finegates_export.deploy.serving.options import AUTO, ServeOptions
from finegates_export.deploy.serving.refusals import FAILED, UNAVAILABLE, Refused
from finegates_export.errors import InputError, missing_extra

if TYPE_CHECKING:
    from ray.serve import Deployment
    from ray.serve.handle import DeploymentHandle

LOG = logging.getLogger("finegates.serving")
DEPLOYMENT = "Replica"
NAMESPACE = "finegates"
"""Where a cluster keeps the names of its servers."""
OBJECT_STORE = 80 << 20
"""Bytes; Ray's minimum. Batches are small and go between processes without it."""
WATCH_SECONDS = 1.0
HEALTH_SECONDS = 2.0
WAITING_A_REPLICA = 1.5
"""Average batches per replica above which another replica starts: more than the one being computed."""
TRIES = 2
CONNECT_SECONDS = 5.0
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
ON_THIS_MACHINE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0"}
"""Makes a one-machine Ray listen only on the loopback address, as it does by default on macOS and Windows, and run its
replicas at normal priority instead of Ray's lowest."""


class Replicas:
    """The running replicas.

    Args:
        handle: Ray Serve's handle of the deployment.
        name: the application's name.
        metrics: counts batches that are sent again.
    """

    def __init__(self, handle: DeploymentHandle, name: str, metrics: Metrics) -> None:
        self._handle, self._name, self._metrics = handle, name, metrics

    async def ask(self, texts: list[Text]) -> list[Answer]:
        """A replica's answers. Prediction has no side effects, so a batch whose replica died goes to another one.

        Raises:
            Refused: the model failed, or replicas died twice.
        """
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import RayServeException

        for _ in range(TRIES):
            try:
                answers: list[Answer] = await self._handle.answers.remote(texts)
            except RayTaskError as error:
                LOG.error("a replica failed on %d texts: %s", len(texts), error)
                raise Refused(FAILED, "the model failed; see the server's log") from error
            except (RayError, RayServeException) as error:
                LOG.warning("lost a replica: %s", error)
                self._metrics.resent()
            else:
                return answers
        raise Refused(UNAVAILABLE, f"{TRIES} replicas died on these texts")

    def count(self) -> int:
        """Number of replicas that can answer now; waits for Ray's controller."""
        from ray import serve

        status = serve.status().applications.get(self._name)
        deployment = status.deployments.get(DEPLOYMENT) if status else None
        # Ray declares enumeration members but returns their names, which compare equal
        states: dict[Any, int] = deployment.replica_states if deployment else {}
        return states.get("RUNNING", 0)


@contextmanager
def running_replicas(options: ServeOptions, name: str, metrics: Metrics) -> Iterator[Replicas]:
    """Replicas, ready to answer, until the block ends.

    Raises:
        InputError: no such cluster, not enough CPUs in it, another server of that name, or the model does not load
            there.
        MissingExtraError: Ray is not installed.
    """
    for variable, value in (QUIET if options.address else QUIET | ON_THIS_MACHINE).items():
        os.environ.setdefault(variable, value)
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise missing_extra("ray", "serve") from error

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    _connect(ray, options)
    # Ray's own handler prints the stack of its C++ side
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        serve.start(proxy_location="Disabled", logging_config=_logs())
        _check_room(ray, options)
        held = _hold(ray, name) if options.address else None
        # a cluster's processes have other working directories
        there = replace(options, bundle=options.bundle.absolute())
        try:
            try:
                handle = serve.run(_deployment(serve, options).bind(there), name=name, route_prefix=None)
            except RuntimeError as error:
                raise InputError(f"the replicas did not start: {error}; see Ray's logs") from error
            yield Replicas(handle, name, metrics)
        finally:
            if held is not None:  # the cluster would keep the replicas, however this ends
                serve.delete(name)
    finally:
        ray.shutdown()


def _connect(ray: ModuleType, options: ServeOptions) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if not options.address:
        most = max(os.cpu_count() or 1, options.most_replicas * options.threads)
        # "local": without it Ray would join a cluster that RAY_ADDRESS or a file of its own names
        ray.init("local", num_cpus=most, object_store_memory=OBJECT_STORE, include_dashboard=False, **quiet)
        return
    try:
        if options.address != AUTO:
            # Ray itself would retry for many minutes
            host, _, port = options.address.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address=options.address, **quiet)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"address {options.address}: no Ray cluster to join: {error}; start one, or omit --address"
        ) from error


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
    return serve.deployment(name=DEPLOYMENT, **settings)(Replica)


def _logs() -> dict[str, object]:
    return {"log_level": "ERROR", "enable_access_log": False}
