"""Keys, HTTPS, request numbers and the access log."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
from urllib.parse import urlsplit

import pytest

from finegates_export.deploy.serving.door import read_keys
from tests.serving.running import SECONDS, serving

KEYS = ("first-key", "second-key")
TEXT = {"text": "a film"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def guarded(bundle, certificate, tmp_path_factory):
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("\n".join(KEYS) + "\n")
    cert, key = certificate
    log = keys.parent / "log"
    options = (
        "--api-key-file",
        str(keys),
        "--tls-cert",
        str(cert),
        "--tls-key",
        str(key),
        "--access-log",
        "--header-timeout",
        "2",
    )
    with log.open("w") as errors, serving(bundle, *options, errors=errors) as running:
        yield running, cert, log


def said(guarded, method, path, body=None, **headers):
    server, cert, _ = guarded
    connection = http.client.HTTPSConnection(
        urlsplit(server.url).netloc, timeout=SECONDS, context=ssl.create_default_context(cafile=cert)
    )
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.read(), dict(response.getheaders())
    finally:
        connection.close()


def test_a_key_is_asked_for_over_https(guarded):
    assert guarded[0].url.startswith("https://")
    for key in KEYS:
        assert said(guarded, "POST", "/predict", TEXT, Authorization=f"Bearer {key}")[0] == 200
    for wrong in ({}, {"Authorization": "Bearer first"}, {"Authorization": "Basic first-key"},
                  {"Authorization": "first-key"}, {"Authorization": "Bearer "}):  # fmt: skip
        status, body, headers = said(guarded, "POST", "/predict", TEXT, **wrong)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert json.loads(body) == {"error": "the key is missing or wrong; send Authorization: Bearer KEY"}
    assert said(guarded, "GET", "/metrics")[0] == said(guarded, "GET", "/nowhere")[0] == 401
    assert said(guarded, "GET", "/v2/health/ready")[0] == said(guarded, "HEAD", "/v2/health/live")[0] == 200
    document = json.loads(said(guarded, "GET", "/openapi.json", Authorization=f"Bearer {KEYS[0]}")[1])
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


def test_plain_http_gets_nothing_from_a_server_with_https(guarded):
    place = urlsplit(guarded[0].url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=SECONDS)
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        connection.request("GET", "/v2/health/live")
        connection.getresponse()


def test_a_handshake_that_does_not_come_ends_the_connection(guarded):
    place = urlsplit(guarded[0].url)
    with socket.create_connection((place.hostname, place.port), SECONDS) as silent:
        assert silent.recv(1) == b""


def test_every_request_has_a_number_in_answer_and_log(guarded):
    key = {"Authorization": f"Bearer {KEYS[0]}"}
    mine = said(guarded, "POST", "/predict", TEXT, **key, **{"X-Request-ID": "mine-7"})[2]["x-request-id"]
    bad = said(guarded, "POST", "/predict", {}, **key, **{"X-Request-ID": 'a" b'})[2]["x-request-id"]
    other = said(guarded, "GET", "/nowhere?q=1", **{"X-Request-ID": "a" * 65})[2]["x-request-id"]
    assert mine == "mine-7"
    assert re.fullmatch("[0-9a-f]{32}", bad)
    assert re.fullmatch("[0-9a-f]{32}", other)
    lines = {line["request"]: line for line in map(json.loads, guarded[2].read_text().splitlines())}
    assert (lines[mine]["status"], lines[mine]["path"], lines[mine]["error"]) == (200, "/predict", "")
    assert (lines[bad]["status"], lines[bad]["error"]) == (422, "text: Field required")
    assert (lines[other]["status"], lines[other]["client"]) == (401, "127.0.0.1")
    assert not any(secret in guarded[2].read_text() for secret in (*KEYS, TEXT["text"]))


def test_a_server_without_keys_asks_for_none(server):
    assert server.post("/predict", TEXT).status == 200
    assert "securitySchemes" not in server.get("/openapi.json").body["components"]


def test_keys_are_kept_as_digests(tmp_path):
    file = tmp_path / "keys"
    file.write_bytes(b"one\r\n\n two \n")
    found = read_keys(file)
    assert len(found) == 2
    assert not any(b"one" in digest or b"two" in digest for digest in found)
