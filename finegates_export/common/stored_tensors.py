"""Safetensors files from strangers: the header is checked before memory is taken for anything that it names."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from finegates_export.errors import FineGatesError, InputError

if TYPE_CHECKING:
    from torch import Tensor

LENGTH_FIELD = 8
"""A safetensors file starts with the length of its header: 8 bytes, little-endian."""
MOST_HEADER = 100_000_000
"""The longest header that the format's own reader takes, in bytes."""
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
    "BOOL": "bool",
}  # fmt: skip
"""The safetensors types that torch supports, and torch's names."""
BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
    "BOOL": 1,
}  # fmt: skip
"""Bytes of a value of each type."""


class StoredTensor(TypedDict):
    """A tensor's entry in a safetensors header."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]
    """Its first byte and the byte after its last, from where the data starts."""


def read_header(file: Path) -> tuple[dict[str, StoredTensor], int]:
    """The header of a safetensors file and where its data starts (spec: huggingface.co/docs/safetensors).

    Raises:
        InputError: the file is truncated or not safetensors, or a tensor has another size than its shape says.
    """
    size = file.stat().st_size
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(LENGTH_FIELD), "little")
        if size < LENGTH_FIELD or length > size - LENGTH_FIELD:
            raise InputError(f"{file} is truncated or not a safetensors file ({size} bytes); download it again")
        if length > MOST_HEADER:
            raise InputError(f"{file} is not a safetensors file: its header has {length:,} bytes; download it again")
        try:
            header = json.loads(handle.read(length))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file} is not a safetensors file: its header is not JSON") from error
    if not isinstance(header, dict):
        raise InputError(f"{file} is not a safetensors file: its header is no object; download it again")
    header.pop("__metadata__", None)
    for name, entry in header.items():
        wrong = _wrong_entry(entry)
        if wrong:
            raise InputError(f"{file} is damaged: tensor {name} has {wrong}; download it again")
    start = LENGTH_FIELD + length
    end = start + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if end > size:
        raise InputError(f"{file} is truncated: its header asks for {end} bytes, but it has {size}; download it again")
    _check_apart(file, header)
    return header, start


def load_tensors(file: Path, error: type[FineGatesError], remedy: str) -> dict[str, Tensor]:
    """All tensors of a safetensors file, by name.

    Args:
        file: the file.
        error: what to raise if it cannot be read.
        remedy: what the user can do about it.

    Raises:
        FineGatesError: as `error`: truncated, damaged or not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        read_header(file)
        return load_file(file)
    except InputError as cause:
        raise error(f"{str(cause).removesuffix('; download it again')}; {remedy}") from cause
    except (SafetensorError, OSError, ValueError, KeyError) as cause:
        raise error(f"{file} is not a complete safetensors file ({cause}); {remedy}") from cause


def _wrong_entry(entry: Any) -> str | None:
    """What is wrong with a tensor's entry; None if nothing is."""
    if not isinstance(entry, dict):
        return "no entry that can be read"
    kind: Any = entry.get("dtype")
    shape: Any = entry.get("shape")
    offsets: Any = entry.get("data_offsets")
    if not isinstance(kind, str):
        return "no type"
    if not _counts(shape):
        return f"the shape {str(shape)[:80]}"
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        return f"the offsets {str(offsets)[:80]}"
    stored, needed = offsets[1] - offsets[0], math.prod(shape) * BYTES.get(kind, 0)
    return f"{stored} bytes, but its shape needs {needed}" if kind in BYTES and stored != needed else None


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)


def _check_apart(file: Path, header: dict[str, StoredTensor]) -> None:
    """Refuse tensors that share bytes: a small file could ask for any amount of memory."""
    before = 0
    for first, last, name in sorted((*entry["data_offsets"], name) for name, entry in header.items()):
        if first < before:
            raise InputError(f"{file} is damaged: tensor {name} lies over another; download it again")
        before = last
