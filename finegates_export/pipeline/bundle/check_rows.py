"""Writes the rows that a bundle is checked with where it is loaded: made-up inputs, and what its graphs answer here.

No row is a user's: ids are drawn from the vocabulary, pixels from a normal distribution.

Shapes: B rows, S tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from finegates_export.common.cache_layout import IDS, MASK, POSITIONS
from finegates_export.common.files import JsonObject
from finegates_export.common.graph_forms import GRAPH_FILES, Form
from finegates_export.common.tasks import PIXELS
from finegates_export.common.tasks.arrays import Array
from finegates_export.runtime.check_rows import CHECK_FILE, INPUTS, TOLERANCES, answers
from finegates_export.runtime.reading import SEGMENTS
from finegates_export.runtime.session import SessionOptions, open_session

ROWS, TOKENS, IMAGES = 4, 12, 1
SHORTER = 3
"""Tokens that each row is shorter than the one before, if it has as many: kernels go wrong at masks."""


def write_check_rows(
    folder: Path, record: Mapping[str, object], paths: Sequence[str], *, half: bool, threads: int | None
) -> JsonObject:
    """Write a bundle's check rows.

    Args:
        folder: the bundle, its graphs in place.
        record: what `bundle.json` will say.
        paths: of its graphs.
        half: whether the float graph computes in float16.
        threads: CPU threads of onnxruntime.

    Returns:
        What `bundle.json` says of them.
    """
    from safetensors.numpy import save

    kept: dict[str, Array] = {}
    tolerances: dict[str, float] = {}
    for path in paths:
        form = _form(path)
        # The float graph as it is written: a fusion that computes wrongly is found at the first load here.
        session = open_session(folder / path, SessionOptions(threads=threads), optimize=form != "float")
        shapes = {value.name: value.shape for value in session.get_inputs()}
        inputs = _inputs(shapes, record)
        kept |= {f"{INPUTS}.{name}": value for name, value in inputs.items()}
        kept |= {f"{form}.{name}": value for name, value in answers(session, inputs).items()}
        tolerances[form] = TOLERANCES["half" if half and form == "float" else form]
    (folder / CHECK_FILE).write_bytes(save(kept))
    return {"file": CHECK_FILE, "tolerances": tolerances}


def _form(path: str) -> Form:
    names: dict[str, Form] = {file: form for form, file in GRAPH_FILES.items()}
    return names[PurePosixPath(path).name]


def _inputs(shapes: Mapping[str, Sequence[object]], record: Mapping[str, object]) -> dict[str, Array]:
    """Made-up inputs of a graph, the same at every export."""
    generator = np.random.default_rng(0)
    if PIXELS in shapes:
        size = [int(str(axis)) for axis in shapes[PIXELS][1:]]
        return {PIXELS: generator.standard_normal((IMAGES, *size)).astype(np.float16).astype(np.float32)}
    longest = int(str(record["max_length"]))
    length = max(1, min(TOKENS, longest))
    ids_BS = generator.integers(0, int(str(record["vocabulary"])), (ROWS, length))
    lengths = np.maximum(length - SHORTER * np.arange(ROWS), 1)
    left = POSITIONS in shapes  # a decoder's prompts are padded in front
    places_S = np.arange(length)[::-1] if left else np.arange(length)
    mask_BS = (places_S[None, :] < lengths[:, None]).astype(np.int64)
    positions_BS = np.maximum(mask_BS.cumsum(1) - 1, 0)
    made = {IDS: ids_BS, MASK: mask_BS, SEGMENTS: np.zeros_like(ids_BS), POSITIONS: positions_BS}
    return {name: np.ascontiguousarray(value, np.int64) for name, value in made.items() if name in shapes}
