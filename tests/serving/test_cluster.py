"""Two Ray nodes of which one stops, and thousands of requests that a program makes up; `make test-serving` runs both.

schemathesis has an environment of its own, which the target sets up.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.serving.running import COMMAND, SECONDS, eventually, replicas_below, serving
from tests.tiny import labelled_texts

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".cache" / "serving"
REQUIRED = "FINEGATES_SERVING_REQUIRED"
"""Set by `make test-serving`."""
TEXTS = [text for text, _ in labelled_texts(40)]
CASES = 2000
OPERATIONS = 2
"""That take a body; the others have one possible request each."""
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"

pytestmark = pytest.mark.skipif(not os.environ.get(REQUIRED), reason="takes minutes; `make test-serving` runs it")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head node, to which the test adds another one."""
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a-token-of-the-tests-that-is-long-enough")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "object_store_memory": 80 << 20, "include_dashboard": False}
    running = Cluster(initialize_head=True, head_node_args=node)
    yield running
    running.shutdown()


def test_a_node_that_stops_takes_no_request_with_it(bundle, cluster):
    other = cluster.add_node(num_cpus=2, object_store_memory=80 << 20)
    how = ("--address", cluster.address, "--replicas", "2", "--threads", "1")
    with serving(Path(bundle.name), *how, folder=bundle.parent) as server:
        node_of = {process.pid: process.ppid() for process in replicas_below(psutil.Process())}
        assert len(set(node_of.values())) == 2, "both replicas are on one node"
        said, over = [], threading.Event()

        def client(number):
            while not over.is_set():
                said.append(server.post("/predict", {"text": TEXTS[number % len(TEXTS)]}))
                number += 1

        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(client, 10 * number) for number in range(4)]
            try:
                eventually(lambda: len(said) > 50)
                cluster.remove_node(other, allow_graceful=False)
                stopped = len(said)
                eventually(lambda: len(said) > stopped + 200)
                eventually(lambda: server.metric("finegates_replicas") == 2)
            finally:
                over.set()
            for one in clients:
                one.result()
        assert {one.status for one in said} <= {200, 503}
        assert sum(one.status == 200 for one in said) > 0.9 * len(said)
        assert server.stop() == 0
    assert not replicas_below(psutil.Process()), "the application outlives its server"


def test_a_server_that_is_stopped_while_its_replicas_start_leaves_none_behind(bundle, cluster):
    process = subprocess.Popen([*COMMAND, str(bundle), "--port", "0", "--address", cluster.address])
    eventually(lambda: bool(replicas_below(psutil.Process())))
    process.terminate()
    process.wait(SECONDS)
    assert not replicas_below(psutil.Process()), "the application outlives its server"


def test_a_name_belongs_to_one_server_while_that_runs(bundle, cluster):
    command = [*COMMAND, str(bundle), "--port", "0", "--address", cluster.address]
    with serving(bundle, "--address", cluster.address) as server:
        second = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert (second.returncode, second.stderr.count("\n")) == (2, 1)
        assert "the cluster already serves finegates-classification; choose another --name" in second.stderr
        assert server.post("/predict", {"text": TEXTS[0]}).status == 200
        server.process.kill()
        server.process.wait(SECONDS)
    with serving(bundle, "--address", cluster.address) as again:
        assert again.post("/predict", {"text": TEXTS[0]}).status == 200


def test_no_made_up_request_is_answered_with_an_error_of_the_server(server):
    if not (HOME / ".ready").is_file():
        pytest.fail(f"{HOME} is missing; `make test-serving` sets it up")
    command = [
        HOME / "bin" / "schemathesis", "run", f"{server.url}/openapi.json", "--phases", "fuzzing", "--seed", "1",
        "--max-examples", str(CASES // OPERATIONS + 1), "--checks", CHECKS, "--generation-database", "none",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HOME)
    assert done.returncode == 0, done.stdout[-4000:]
    cases = re.search(r"([\d,]+) generated", done.stdout)
    assert cases is not None, done.stdout[-1000:]
    assert int(cases[1].replace(",", "")) >= CASES
    assert server.get("/v2/health/ready").status == 200
