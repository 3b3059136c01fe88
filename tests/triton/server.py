"""The real server of the wheel, on ports of its own on the loopback interface, and what is asked of it.

Its Python backend starts a process for every model, built for one version of Python: that of the environment, whose
packages it is given.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
HOME = HERE.parent.parent / ".cache" / "triton"
PYTHON = HOME / "bin" / "python"
REQUIRED = "FINEGATES_TRITON_REQUIRED"
"""Set by `make test-triton`, which has made the environment: one that is missing is then a failure."""
SECONDS = 120
"""A server that is not ready by then hangs."""
PLACES = (
    "import sys, sysconfig, json, pytriton; print(json.dumps([pytriton.__path__[0], sysconfig.get_path('purelib'), \
sysconfig.get_config_var('LIBDIR'), '%d.%d' % sys.version_info[:2]]))"
)


def need_environment() -> None:
    """Skip where there is no environment, or fail where there has to be one."""
    if not (HOME / ".ready").is_file():
        reason = f"{HOME} is missing; `make test-triton` sets it up"
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)


def run_script(name: str | Path, *words: object) -> str:
    """What a script prints, one beside this file or anywhere else, run by the environment's Python."""
    command = [str(PYTHON), str(HERE / name), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        pytest.fail(f"{name} ended with status {done.returncode}: {done.stderr[-3000:]}", pytrace=False)
    return done.stdout


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    http: str
    grpc: str
    log: Path

    def get(self, path: str) -> int:
        """The status that a GET is answered with."""
        return self._request("GET", path)[0]

    def counted(self, model: str) -> tuple[int, int]:
        """Rows that a model has answered, and the calls that it took."""
        (told,) = json.loads(self._request("GET", f"v2/models/{model}/stats")[1])["model_stats"]
        return int(told["inference_count"]), int(told["execution_count"])

    def post(self, path: str, content: bytes = b"{}") -> Any:
        """The JSON that a POST is answered with."""
        return json.loads(self._request("POST", path, content)[1])

    def _request(self, method: str, path: str, content: bytes | None = None) -> tuple[int, bytes]:
        connection = HTTPConnection(self.http, timeout=60)
        try:
            connection.request(method, f"/{path}", content)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def states(self) -> dict[str, tuple[str, str]]:
        """State and reason of every model."""
        return {one["name"]: (one.get("state", ""), one.get("reason", "")) for one in self.post("v2/repository/index")}

    def ask(self, model: str, requests: list[dict[str, Any]], outputs: list[str], scratch: Path, **how: Any) -> Any:
        """The answers to requests, over HTTP and gRPC; see client.py."""
        spec, result = scratch / "spec.json", scratch / "result.json"
        asked = {"http": self.http, "grpc": self.grpc, "model": model, "outputs": outputs, "requests": requests}
        spec.write_text(json.dumps({**asked, "together": False, "classes": 0, **how}), encoding="utf-8")
        run_script("client.py", spec, result)
        return json.loads(result.read_text(encoding="utf-8"))


@contextmanager
def serving(repository: Path, scratch: Path) -> Iterator[Server]:
    """A server of a repository; it has loaded, or failed to load, every model when the block starts."""
    package, packages, libraries, version = json.loads(
        subprocess.run([str(PYTHON), "-c", PLACES], capture_output=True, text=True, check=True, timeout=SECONDS).stdout
    )
    home = Path(package) / "tritonserver"
    backends = shutil.copytree(home / "backends", scratch / "backends")
    shutil.copy2(home / "python_backend_stubs" / version / "triton_python_backend_stub", backends / "python")
    http, grpc = free_ports(2)
    server = Server(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", scratch / "server.log")
    environment = {
        "LD_LIBRARY_PATH": f"{libraries}:{packages}/nvidia_pytriton.libs",
        "PATH": f"{HOME / 'bin'}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    with server.log.open("w") as log:
        process = subprocess.Popen(
            [str(home / "bin" / "tritonserver"), f"--model-repository={repository}", f"--backend-directory={backends}",
             "--http-address=127.0.0.1", f"--http-port={http}", "--grpc-address=127.0.0.1", f"--grpc-port={grpc}",
             "--allow-metrics=false", "--exit-on-error=false", "--strict-readiness=false",
             "--exit-timeout-secs=10"],
            env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            _wait(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        told = server.log.read_text(errors="replace")
        if process.poll() is not None:
            pytest.fail(f"the server ended with status {process.returncode}: {told[-3000:]}", pytrace=False)
        with suppress(OSError):
            server.get("v2/health/live")
            return
        time.sleep(0.1)
    pytest.fail(f"the server is not ready: {server.log.read_text(errors='replace')[-3000:]}", pytrace=False)
