"""Clients that idle, drip, flood or never end: they are cut off, and others are served meanwhile."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import psutil
import pytest

from tests.serving.running import SECONDS, serving
from tests.tiny import labelled_texts

BODY = b'{"text": "a film"}'
ASK = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
LIMITS = ("--connections", "8", "--header-timeout", "600", "--body-timeout", "0.5", "--max-body", "100000")
MANY = 40
TEXTS = [text for text, _ in labelled_texts(4)]


@pytest.fixture(scope="module")
def narrow(bundle):
    with serving(bundle, *LIMITS) as running:
        yield running
        assert running.stop() == 0


def connected(server):
    place = urlsplit(server.url)
    return socket.create_connection((place.hostname, place.port), SECONDS)


def answer(connection):
    """All that comes until the server hangs up."""
    said = b""
    try:
        while part := connection.recv(1 << 16):
            said += part
    except ConnectionError:
        return said
    return said


def serves_others(server):
    return server.post("/predict", {"text": TEXTS[0]}).status == 200


STARTS = {
    "idle": b"",
    "half a header": b"POST /predict HTTP/1.1\r\nHost: h",
    "half a body": ASK[:-5],
    "a kept connection": b"GET /v2/health/live HTTP/1.1\r\nHost: here\r\n\r\n",
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_connections_without_a_whole_request_make_room_for_others(narrow, start):
    with ExitStack() as stack:
        idle = [stack.enter_context(connected(narrow)) for _ in range(MANY)]
        for one in idle:
            try:
                one.sendall(start)
            except ConnectionError:  # it had to go already
                continue
        assert serves_others(narrow)
        assert answer(idle[0]).count(b"\r\n\r\n") <= 1, "the oldest one is closed"


def test_a_header_that_does_not_come_ends_the_connection(bundle):
    with serving(bundle, "--header-timeout", "0.3") as server:
        for start in (b"", STARTS["half a header"], STARTS["a kept connection"] + b"GET /v2"):
            with connected(server) as slow:
                slow.sendall(start)
                said = answer(slow)
                assert said.count(b"HTTP/1.1 200 OK") == start.count(b"\r\n\r\n")
        assert serves_others(server)


def test_a_body_that_does_not_come_is_told_so(narrow):
    with connected(narrow) as slow:
        slow.sendall(ASK[:-5])
        said = answer(slow)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"the body did not arrive within the limit of 0.5 seconds" in said
    assert b"connection: close" in said


HUGE = {
    "one field": b"GET /v2 HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 200_000,
    "many fields": b"GET /v2 HTTP/1.1\r\nHost: h\r\n" + b"X: a\r\n" * 40_000,
    "a long path": b"GET /" + b"a" * 200_000,
    "no lines": b"\x00\xff" * 100_000,
}


@pytest.mark.parametrize("header", HUGE.values(), ids=HUGE)
def test_a_header_without_end_is_refused(narrow, header):
    with connected(narrow) as rude:
        with suppress(ConnectionError):
            rude.sendall(header)
        assert b" 200 " not in answer(rude)
    assert serves_others(narrow)


def test_requests_in_a_row_on_one_connection_are_answered_in_order(narrow, predictor):
    bodies = [json.dumps({"text": text}).encode() for text in TEXTS]
    head = b"POST /predict HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
    last = b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    with connected(narrow) as eager:
        eager.sendall(b"".join(head % len(body) + body for body in bodies) + last)
        said = answer(eager).decode()
    labels = re.findall(r'{"label": "(\w+)"', said)
    assert labels == [found.label for found in predictor.predict(TEXTS)]
    assert said.endswith('{"live": true}')


@pytest.mark.parametrize("method", [b"POST /predict", b"GET /v2", b"POST /nowhere"])
def test_a_body_without_end_is_cut_off(narrow, method):
    with connected(narrow) as endless:
        endless.sendall(method + b" HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < 64 << 20:
                endless.sendall(b"10000\r\n" + b"a" * 0x10000 + b"\r\n")
                sent += 0x10000
        except ConnectionError:
            pass
        assert sent < 64 << 20, "it took all of it"
    assert serves_others(narrow)


def test_memory_is_given_back_after_large_bodies(narrow):
    """As many bodies as fit, again and again, leave no trace."""
    process = psutil.Process(narrow.process.pid)
    body = json.dumps({"texts": ["a" * 99_000]}).encode()
    sizes = []
    for _ in range(30):
        assert narrow.post("/predict", body).status == 200
        sizes.append(process.memory_info().rss)
    assert sizes[-1] < sizes[9] + (16 << 20)


def test_nothing_is_open_but_the_one_port(narrow):
    below = [psutil.Process(narrow.process.pid), *psutil.Process(narrow.process.pid).children(recursive=True)]
    listening = [
        one.laddr for process in below for one in process.net_connections("all") if one.status == psutil.CONN_LISTEN
    ]
    assert [(place.ip, place.port) for place in listening] == [("127.0.0.1", urlsplit(narrow.url).port)]


def test_workers_open_nothing_and_end_with_a_signal_to_the_group(server, bundle):
    below = psutil.Process(server.process.pid).children(recursive=True)
    assert len(server.replicas()) == 2
    assert not [one for process in below for one in process.net_connections("inet")]
    with serving(bundle, "--replicas", "2", group=True) as grouped:
        replicas = grouped.replicas()
        assert grouped.stop(signal.SIGTERM, group=True) == 0
        psutil.wait_procs(replicas, SECONDS)
        assert not any(one.is_running() for one in replicas)


def test_workers_end_with_a_server_that_is_killed(bundle):
    with serving(bundle, "--replicas", "2") as server:
        replicas = server.replicas()
        server.process.kill()
        gone, alive = psutil.wait_procs(replicas, SECONDS)
        assert (len(gone), alive) == (2, [])


@pytest.mark.parametrize("writable", [True, False])
def test_a_server_writes_nothing_at_home_but_that_a_bundle_was_checked_and_calls_nobody(
    bundle, monkeypatch, tmp_path, writable
):
    monkeypatch.setenv("HOME", str(tmp_path) if writable else "/proc/nowhere")
    for variable in ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY"):
        monkeypatch.delenv(variable, raising=False)
    with serving(bundle) as server:
        assert serves_others(server)
        process = psutil.Process(server.process.pid)
        assert {one.laddr.ip for one in process.net_connections("inet")} == {"127.0.0.1"}
        assert not any("Microsoft" in file.path for file in process.open_files())
    written = [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()]
    assert [file for file in written if not file.startswith(".cache/finegates")] == []


def test_a_low_limit_of_open_files_is_raised_and_kept(bundle):
    """A process that may open few files takes fewer connections, and never fails to accept one."""
    command = ["prlimit", "--nofile=300:300"]
    if subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("prlimit is missing")
    with serving(bundle, before=command) as server, ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(connected(server))
        assert serves_others(server)
