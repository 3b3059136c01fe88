"""What `tests.tidy` lets pass and what it names."""

from __future__ import annotations

import pytest

from tests.tidy import LARGEST, complaints


@pytest.mark.parametrize(
    ("path", "content", "told"),
    [
        ("a.py", b"x = 1  # TODO: later\n", "a.py:1: TODO without the number of an issue"),
        ("a.py", b"x = 1\n# FIXME(soon)\n", "a.py:2: FIXME without the number of an issue"),
        ("docs/a.md", b"one \ntwo\n", "docs/a.md:1: space at the end of the line"),
        ("docs/a.md", b"one\r\n", "docs/a.md:1: space at the end of the line"),
        ("a.toml", b"x = 1", "a.toml: does not end with one line break"),
        ("Makefile", b"all:\n\n", "Makefile: does not end with one line break"),
        ("a.png", bytes(LARGEST + 1), "bytes, more than"),
    ],
)
def test_a_fault_is_told_with_its_place(path: str, content: bytes, told: str) -> None:
    (found,) = complaints(path, content)
    assert told in found


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("a.py", b"x = 1  # TODO(#12): later\n"),
        ("a.py", b"TODOS = 1\n"),
        ("a.py", b""),
        ("a.png", b"any bytes \xff"),
        ("benchmarks/results/a.md", b"written by a program \n\n"),
    ],
)
def test_nothing_else_is(path: str, content: bytes) -> None:
    assert list(complaints(path, content)) == []
