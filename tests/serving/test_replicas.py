"""A replica that dies, one that does not answer, and a server that is told to stop."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from urllib.parse import urlsplit

import pytest

from finegates_export.common.commands import INTERRUPTED_STATUS
from tests.serving.running import SECONDS, eventually, serving
from tests.tiny import labelled_texts

TEXTS = [text for text, _ in labelled_texts(40)]


def ask(server, text):
    return server.post("/predict", {"text": text})


@pytest.mark.slow
def test_a_killed_replica_costs_no_request_and_is_replaced(server, predictor):
    expected = {text: found.label for text, found in zip(TEXTS, predictor.predict(TEXTS), strict=True)}
    first = {process.pid for process in server.replicas()}
    assert len(first) == 2
    over = threading.Event()
    said = []

    def client(number):
        while not over.is_set():
            text = TEXTS[number % len(TEXTS)]
            said.append((text, ask(server, text)))
            number += 1

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, 5 * number) for number in range(8)]
        try:
            eventually(lambda: len(said) > 50)
            server.replicas()[0].kill()
            eventually(lambda: len(first & {process.pid for process in server.replicas()}) == 1)
            eventually(lambda: len(server.replicas()) == 2 and server.metric("finegates_replicas") == 2)
        finally:
            over.set()
        for one in clients:
            one.result()
    assert {one.status for _, one in said} <= {200, 503}
    answered = [(text, one.body["label"]) for text, one in said if one.status == 200]
    assert all(label == expected[text] for text, label in answered)
    assert len(answered) > 0.9 * len(said)
    assert ask(server, TEXTS[0]).status == 200


@pytest.mark.exhaustive
def test_replicas_are_added_while_there_is_more_to_do_than_they_do(bundle):
    over = threading.Event()

    def client(server):
        while not over.is_set():
            assert ask(server, TEXTS[0]).status == 200

    with serving(bundle, "--max-replicas", "2", "--batch", "1") as server, ThreadPoolExecutor(16) as pool:
        assert ask(server, TEXTS[0]).status == 200
        assert len(server.replicas()) == 1
        clients = [pool.submit(client, server) for _ in range(16)]
        try:
            eventually(lambda: server.metric("finegates_replicas") == 2)
        finally:
            over.set()
        for one in clients:
            one.result()
        assert len(server.replicas()) == 2


@pytest.mark.slow
def test_a_full_queue_is_said_and_what_was_taken_is_answered_before_ctrl_c_stops_the_server(bundle):
    limits = ("--queue", "4", "--max-texts", "4", "--batch", "1", "--drain", "60", "--timeout", "60", "--replicas", "2")
    with serving(bundle, *limits) as server, ThreadPoolExecutor(8) as pool:
        assert ask(server, TEXTS[0]).status == 200
        replicas = server.replicas()
        assert len(replicas) == 2
        for replica in replicas:
            replica.suspend()
        taken = [pool.submit(ask, server, text) for text in TEXTS[:8]]
        eventually(lambda: server.metric("finegates_waiting_texts") == 4)
        refused = ask(server, "one more")
        assert refused.status == 429
        assert refused.body == {"error": "4 texts wait, and 1 more would exceed the limit of 4; try again"}
        assert not any(one.done() for one in taken)
        server.process.send_signal(signal.SIGINT)
        eventually(lambda: not listens(server))
        assert server.process.poll() is None
        for replica in replicas:
            replica.resume()
        wait(taken, 60)
        assert [one.result().status for one in taken] == [200] * 8
        assert server.process.wait(60) == INTERRUPTED_STATUS
        assert not any(replica.is_running() for replica in replicas)


@pytest.mark.exhaustive
def test_what_is_not_answered_when_the_server_ends_is_told_so(bundle):
    head = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"
    with serving(bundle, "--drain", "1") as server:
        place = urlsplit(server.url)
        with socket.create_connection((place.hostname, place.port), SECONDS) as slow:
            slow.sendall(head)
            assert slow.recv(100).startswith(b"HTTP/1.1 100 ")  # it is waited for from now on
            assert server.stop() == 0
            said = http.client.HTTPResponse(slow)
            said.begin()
            assert (said.status, json.loads(said.read())) == (503, {"error": "the server is stopping"})


def listens(server):
    try:
        server.get("/v2/health/live")
    except ConnectionError:
        return False
    return True
