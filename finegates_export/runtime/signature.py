"""Signatures of bundles: Ed25519 over the bytes of `bundle.json`, which has the hash of every other file.

The signature lies beside it as base64, in a file that `bundle.json` cannot list.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.errors import InputError, missing_extra

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE = "bundle.json.sig"
"""The signature of `bundle.json`, beside it."""
SIGNATURE_BYTES = 64
MOST_BYTES = 1 << 16
"""A larger file is no key and no signature."""


def sign(content: bytes, key: Ed25519PrivateKey) -> str:
    """The signature of some bytes, as `SIGNATURE` holds it."""
    return base64.b64encode(key.sign(content)).decode("ascii") + "\n"


def check_signature(folder: Path, content: bytes, key: str | Path | bytes) -> None:
    """Fail unless a bundle's `bundle.json` was signed by the owner of a key.

    Args:
        folder: the bundle.
        content: the bytes of its `bundle.json`.
        key: the public key, as a PEM file or its content.

    Raises:
        InputError: the key is none, or the bundle is not signed, or signed by another key, or changed afterwards.
        MissingExtraError: cryptography is not installed.
    """
    public, file = read_public_key(key), folder / SIGNATURE
    from cryptography.exceptions import InvalidSignature

    if not file.is_file():
        raise InputError(
            f"bundle {folder} is not signed: it lacks {SIGNATURE}; export it with --sign, or load without key"
        )
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES:,} bytes")
        signature = base64.b64decode(file.read_bytes().strip(), validate=True)
        if len(signature) != SIGNATURE_BYTES:
            raise ValueError(f"{len(signature)} bytes, not {SIGNATURE_BYTES}")
    except ValueError as error:
        raise InputError(f"{file} is no signature ({error}); copy the bundle whole, or sign it again") from error
    try:
        public.verify(signature, content)
    except InvalidSignature as error:
        told = "another key signed it, or bundle.json was changed afterwards"
        raise InputError(f"bundle {folder} is not signed by this key: {told}; use a bundle from its owner") from error


def read_public_key(key: str | Path | bytes) -> Ed25519PublicKey:
    """A public key.

    Args:
        key: a PEM file, or its content as bytes.

    Raises:
        InputError: it cannot be read, or is no Ed25519 public key.
        MissingExtraError: cryptography is not installed.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise missing_extra("cryptography", "sign") from error

    content, name = _pem(key, "key")
    try:
        public = serialization.load_pem_public_key(content)
    except Exception as error:  # ValueError, UnsupportedAlgorithm, and what a damaged key may raise besides
        raise _no_key(name, "public", _hint(content)) from error
    if not isinstance(public, Ed25519PublicKey):
        raise _no_key(name, "public", f"it is {type(public).__name__}")
    return public


def read_private_key(file: Path) -> Ed25519PrivateKey:
    """A private key.

    Args:
        file: a PEM file without a password.

    Raises:
        InputError: it cannot be read, or is no Ed25519 private key, or has a password.
        MissingExtraError: cryptography is not installed.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise missing_extra("cryptography", "sign") from error

    content, name = _pem(file, "sign")
    try:
        private = serialization.load_pem_private_key(content, password=None)
    except TypeError as error:
        raise _no_key(name, "private", "it has a password; decrypt it with openssl pkey first") from error
    except Exception as error:  # as above
        raise _no_key(name, "private", _hint(content)) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise _no_key(name, "private", f"it is {type(private).__name__}")
    return private


def _pem(key: str | Path | bytes, field: str) -> tuple[bytes, str]:
    """A key's content, and what messages call it."""
    if isinstance(key, bytes):
        return key, field
    path = Path(key).expanduser()
    try:
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise InputError(f"{field}: {path} is no key (more than {MOST_BYTES:,} bytes); name a PEM file")
        return path.read_bytes(), f"{field}: {path}"
    except OSError as error:
        raise InputError(f"{field}: {path} cannot be read ({error.strerror or error}); name a PEM file") from error


def _hint(content: bytes) -> str:
    """What a PEM file seems to be instead."""
    first = content.strip().split(b"\n", 1)[0][:40].decode("ascii", errors="replace")
    return f"it begins with {first!r}"


def _no_key(name: str, kind: str, told: str) -> InputError:
    make = "openssl genpkey -algorithm ed25519" if kind == "private" else "openssl pkey -in KEY -pubout"
    return InputError(f"{name} is no Ed25519 {kind} key ({told}); make one with {make}")
