"""What a server cannot start with: one line and an exit status, before any process is started."""

from __future__ import annotations

import importlib
import shutil
import socket
import subprocess
import sys

import pytest

from finegates_export.deploy.serving.cli import main
from finegates_export.deploy.serving.cluster.replicas import check_version, listen_on_node
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.errors import UnsupportedError


def said(capsys, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["finegates-serve", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    out, err = capsys.readouterr()
    assert stopped.value.code == 2
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_a_port_in_use(capsys, monkeypatch, bundle):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = said(capsys, monkeypatch, bundle, "--port", port)
    assert f"port {port} of 127.0.0.1 is in use; choose another with --port" in told


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_file_that_is_missing_or_changed(capsys, monkeypatch, bundle, tmp_path, name):
    copied = shutil.copytree(bundle, tmp_path / "copied")
    with (copied / name).open("ab") as file:
        file.write(b" ")
    assert f"{name} was changed after the export (its sha256 differs)" in said(capsys, monkeypatch, copied)
    (copied / name).unlink()
    assert f"{name} is missing" in said(capsys, monkeypatch, copied)


def test_a_form_or_a_provider_that_is_not_there(capsys, monkeypatch, bundle):
    assert "has no int4 graph; export it with --quantize int4" in said(capsys, monkeypatch, bundle, "--form", "int4")
    told = said(capsys, monkeypatch, bundle, "--provider", "cuda")
    assert "provider: this onnxruntime lacks CUDAExecutionProvider; it has" in told


def test_two_bundles_of_one_name(capsys, monkeypatch, bundle):
    told = said(capsys, monkeypatch, bundle, bundle, "--port", 0)
    assert "name: two bundles would be called classification; give each a name with --name" in told


def test_keys_and_certificates_that_cannot_be_used(capsys, monkeypatch, bundle, tmp_path):
    empty = tmp_path / "empty"
    empty.write_text("\n \n")
    told = said(capsys, monkeypatch, bundle, "--port", 0, "--api-key-file", empty)
    assert f"api-key-file: {empty} holds no key; write one a line" in told
    told = said(capsys, monkeypatch, bundle, "--port", 0, "--api-key-file", tmp_path / "none")
    assert "none cannot be read: No such file or directory" in told
    told = said(capsys, monkeypatch, bundle, "--port", 0, "--tls-cert", empty, "--tls-key", empty)
    assert "give a certificate and its own key as PEM" in told


def test_a_cluster_that_is_not_there(capsys, monkeypatch, bundle):
    told = said(capsys, monkeypatch, bundle, "--port", 0, "--address", "127.0.0.1:9")
    assert "address 127.0.0.1:9: no Ray cluster to join" in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": "a/b"}, "name: 'a/b' may contain only letters"),
        ({"name": ".."}, "name: '..' may contain only letters"),
        ({"port": 70000}, "port: must lie in 0 to 65535, got 70000"),
        ({"replicas": 0}, "replicas: must be positive, got 0"),
        ({"replicas": 3, "max_replicas": 2}, "max-replicas: must be at least --replicas 3, got 2"),
        ({"queue": 5}, "queue: must hold one request of --max-texts 256, got 5"),
        ({"timeout": 0.0}, "timeout: must be positive, got 0.0"),
        ({"drain": float("inf")}, "drain: must be finite, got inf"),
        ({"batch_wait": -1.0}, "batch-wait: must not be negative, got -1.0"),
        ({"header_timeout": 0.0}, "header-timeout: must be positive, got 0.0"),
        ({"connections": 0}, "connections: must be positive, got 0"),
        ({"name": ("a", "b")}, "name: 1 bundles need as many different names, got a, b"),
        ({"tls_cert": "cert.pem"}, "tls-cert: a certificate and its key go together"),
        ({"address": "auto", "watch": True}, "address: a cluster serves one bundle, without --watch"),
        ({"address": "nowhere"}, "address: 'nowhere' is not HOST:PORT or auto"),
        ({"form": "int2"}, "form: 'int2' is not one of float, int8, int4"),
        ({"provider": "tpu"}, "provider: 'tpu' is not one of cpu, cuda, tensorrt"),
    ],
)
def test_an_impossible_option_is_named(options, told):
    with pytest.raises(ValueError, match="^" + told.replace("(", r"\(")):
        ServeOptions("bundle", **options)


@pytest.mark.parametrize("installed", ["2.54.0", "2.9.1", "1.13"])
def test_a_ray_that_runs_what_anybody_sends_is_refused(installed):
    with pytest.raises(UnsupportedError, match=rf"Ray {installed} runs code that anybody sends.*serve-ray"):
        check_version(installed)
    check_version("2.60.0")
    check_version("3.0.0rc1")


def test_a_replica_on_a_cluster_listens_at_its_node_alone(monkeypatch):
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "10.0.0.7")
    replica = importlib.import_module("ray.serve._private.replica")
    opened = []
    monkeypatch.setattr(replica, "add_port_to_grpc_server", lambda _server, place: opened.append(place) or 7)
    listen_on_node()
    assert replica.add_port_to_grpc_server(None, "[::]:0") == 7
    assert opened == ["10.0.0.7:0"]


LIGHT = """
import sys
import finegates_export.deploy.serving.server, finegates_export.deploy.serving.cli
print(sorted(set(sys.modules) & {"torch", "transformers", "onnxruntime", "ray"}))
"""


def test_importing_the_server_loads_neither_torch_nor_ray():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
