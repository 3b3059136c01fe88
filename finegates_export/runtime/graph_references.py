"""The files that an ONNX graph has its weights in besides itself, read without onnx, which the runtime does not need.

An ONNX file is a protocol buffer: fields, each a number and a wire type, of which the nested ones are messages again.
Only those that lead to a tensor are followed; field numbers are those of onnx.proto (https://github.com/onnx/onnx).
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator
from pathlib import Path

from finegates_export.errors import InputError

LOCATION = b"location"
"""The key of a tensor's file."""
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types."""
DEEPEST = 64
"""Graphs within graphs."""
MODEL, GRAPH, NODE, ATTRIBUTE, SPARSE, TENSOR, TRAINING, FUNCTION, ENTRY = range(9)
NESTED: dict[int, dict[int, int]] = {
    MODEL: {7: GRAPH, 20: TRAINING, 25: FUNCTION},
    GRAPH: {1: NODE, 5: TENSOR, 15: SPARSE},
    NODE: {5: ATTRIBUTE},
    ATTRIBUTE: {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE},
    SPARSE: {1: TENSOR, 2: TENSOR},
    TENSOR: {13: ENTRY},
    TRAINING: {1: GRAPH, 2: GRAPH},
    FUNCTION: {7: NODE, 11: ATTRIBUTE},
}
"""The messages in each message, by the number of their field."""
KEY, VALUE = 1, 2


def check_references(graph: Path, folder: Path, listed: Collection[str]) -> None:
    """Fail if a graph has weights in a file that its bundle does not list.

    Args:
        graph: the file.
        folder: the bundle.
        listed: the bundle's files, as paths in it.

    Raises:
        InputError: it names another file, or is no protocol buffer.
    """
    place = graph.parent.relative_to(folder)
    for name in external_files(graph):
        if "/" in name or "\\" in name or (place / name).as_posix() not in listed:
            raise InputError(f"{graph} has weights in {name!r}, which bundle.json does not list; export again")


def external_files(graph: Path) -> set[str]:
    """The files that a graph's tensors name, as they name them.

    Args:
        graph: an ONNX file.

    Raises:
        InputError: it is no protocol buffer.
    """
    if not graph.stat().st_size:
        return set()
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(LOCATION) < 0:  # no tensor is elsewhere; what follows would take long for a large graph
            return set()
        try:
            return set(_locations(content, 0, len(content), MODEL, 0))
        except (IndexError, ValueError) as error:
            raise InputError(f"{graph} cannot be read as a graph ({error}); export again") from error


def _locations(content: mmap.mmap, start: int, end: int, kind: int, depth: int) -> Iterator[str]:
    """The locations of the tensors in a message."""
    if depth > DEEPEST * 3:  # a node and an attribute lie between two graphs
        raise ValueError("graphs are nested too deeply")
    if kind == ENTRY:
        parts = {number: content[first:last] for number, first, last in _fields(content, start, end)}
        if parts.get(KEY) == LOCATION:
            yield parts.get(VALUE, b"").decode("utf-8", errors="replace")
        return
    nested = NESTED[kind]
    for number, first, last in _fields(content, start, end):
        if number in nested:
            yield from _locations(content, first, last, nested[number], depth + 1)


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of a message that has a length."""
    at = start
    while at < end:
        tag, at = _number(content, at)
        wire = tag & 7
        if wire == LENGTH:
            size, at = _number(content, at)
            if at + size > end:
                raise ValueError("a field ends behind its message")
            yield tag >> 3, at, at + size
            at += size
        elif wire == VARINT:
            _, at = _number(content, at)
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"unknown wire type {wire} at byte {at}")


def _number(content: mmap.mmap, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"a number of more than 64 bits at byte {at}")
