"""A bundle that is signed loads with its owner's key, and with no other; nothing of it is read before."""

from __future__ import annotations

import base64
import json
import shutil

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import finegates_export
from finegates_export import ExportOptions, export
from finegates_export.errors import InputError, MissingExtraError
from finegates_export.runtime.signature import SIGNATURE, sign
from tests.export.conftest import bundle_info
from tests.export.test_closed_bundle import rehash
from tests.tiny import LORA

PEM, OPEN = serialization.Encoding.PEM, serialization.NoEncryption()


def write_keys(folder, name, private=None):
    """A private and a public key as PEM files."""
    key = private or Ed25519PrivateKey.generate()
    secret, known = folder / f"{name}.pem", folder / f"{name}-public.pem"
    secret.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, OPEN))
    known.write_bytes(key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return secret, known


@pytest.fixture(scope="module")
def plain(workshop):
    return workshop.bundle(workshop.run("coupled", LORA))


@pytest.fixture
def owner(tmp_path):
    return write_keys(tmp_path, "owner")


@pytest.fixture
def signed(plain, tmp_path, owner):
    folder = shutil.copytree(plain, tmp_path / "signed")
    key = serialization.load_pem_private_key(owner[0].read_bytes(), None)
    (folder / SIGNATURE).write_text(sign((folder / "bundle.json").read_bytes(), key))
    return folder


def load(folder, key):
    return finegates_export.load(folder, threads=1, key=key)


@pytest.mark.slow
def test_an_export_signs_and_its_owners_key_loads_it(workshop, tmp_path, owner):
    secret, known = owner
    run = workshop.run("coupled", LORA, layers=1)
    export(ExportOptions(ckpt=run, out=tmp_path / "bundle", threads=1, sign=secret))
    assert load(tmp_path / "bundle", known).predict(["a film"])
    with pytest.raises(InputError, match="is not signed by this key"):
        load(tmp_path / "bundle", write_keys(tmp_path, "other")[1])
    assert secret.read_text() not in "".join(
        path.read_text(errors="replace") for path in (tmp_path / "bundle").iterdir() if path.is_file()
    )


def test_a_key_is_a_file_or_its_content(signed, owner):
    for key in (owner[1], str(owner[1]), owner[1].read_bytes()):
        assert load(signed, key).predict(["a film"])
    assert load(signed, None).predict(["a film"])


@pytest.mark.parametrize("change", ["record", "other signature", "no signature", "cut", "no base64", "link"])
def test_what_its_owner_did_not_sign_is_refused_before_a_file_is_opened(signed, owner, tmp_path, monkeypatch, change):
    monkeypatch.setattr("finegates_export.runtime.bundle_files.check_fields", None)
    monkeypatch.setattr("finegates_export.runtime.bundle_files.sha256_file", None)
    file = signed / SIGNATURE
    if change == "record":
        (signed / "bundle.json").write_text(json.dumps({**bundle_info(signed), "labels": ["x", "y", "z"]}))
    elif change == "other signature":
        file.write_text(base64.b64encode(bytes(64)).decode())
    elif change == "cut":
        file.write_text(file.read_text()[:40])
    elif change == "no base64":
        file.write_bytes(b"\xff\xfe")
    else:
        file.rename(tmp_path / "elsewhere")
        if change == "link":
            file.symlink_to(tmp_path / "elsewhere")
    told = "is not signed by this key|is not signed: it lacks|is no signature|is a link"
    with pytest.raises(InputError, match=told) as caught:
        load(signed, owner[1])
    assert "\n" not in str(caught.value)


def test_a_file_under_a_new_hash_is_refused_by_the_signature(signed, owner):
    (signed / "README.md").write_text("another")
    rehash(signed)
    with pytest.raises(InputError, match="is not signed by this key"):
        load(signed, owner[1])


@pytest.mark.parametrize("key", ["missing", "private", "empty", "elliptic", "folder", "large"])
def test_what_is_no_public_key_is_told(signed, owner, tmp_path, key):
    files = {"missing": tmp_path / "gone.pem", "private": owner[0], "folder": tmp_path}
    if key == "elliptic":
        files[key] = write_keys(tmp_path, "elliptic", generate_private_key(SECP256R1()))[1]
    for name, content in {"empty": b"", "large": b"x" * 100_000}.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"key: .*(cannot be read|is no Ed25519 public key|is no key)") as caught:
        load(signed, files.get(key, tmp_path / key))
    assert "PRIVATE KEY-----\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["missing", "public", "password"])
def test_a_key_that_cannot_sign_ends_the_export_before_any_work(workshop, owner, tmp_path, key):
    locked = tmp_path / "password"
    private = serialization.load_pem_private_key(owner[0].read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"word")
    locked.write_bytes(private.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption))
    file = {"public": owner[1], "password": locked}.get(key, tmp_path / "gone.pem")
    with pytest.raises(InputError, match=r"sign: .*(cannot be read|is no Ed25519 private key)"):
        export(ExportOptions(ckpt=tmp_path / "no run at all", out=tmp_path / "bundle", sign=file))
    assert not (tmp_path / "bundle").exists()


def test_without_cryptography_the_extra_is_named(signed, owner, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(MissingExtraError, match=r"finegates-export\[sign\]"):
        load(signed, owner[1])


def test_a_file_alone_is_not_signed(tmp_path, owner):
    with pytest.raises(ValueError, match="sign: applies to a bundle"):
        ExportOptions(ckpt=tmp_path, out=tmp_path / "model.onnx", sign=owner[0])
