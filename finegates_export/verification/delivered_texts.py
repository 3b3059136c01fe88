"""Texts through what a bundle's users have: its tokenizer, its record and the runtime's readers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from finegates_export.common.files import JsonObject
from finegates_export.common.tasks import Task
from finegates_export.common.tasks.arrays import Array
from finegates_export.runtime.loading import make_reader, prompt_reader, read_tokenizer
from finegates_export.runtime.predictor import Reader
from finegates_export.runtime.prompts import PromptReader
from finegates_export.runtime.session import open_session
from finegates_export.verification.chain import Read
from finegates_export.verification.prompts import left_padded


def delivered_texts(folder: Path, record: JsonObject, graph: Path, task: Task) -> Read:
    """Makes a graph's inputs of texts, as `load(folder)` does.

    Args:
        folder: the bundle, or what will be one.
        record: the content of its `bundle.json`.
        graph: one of its graphs.
        task: the graph's task.

    Raises:
        InputError: the tokenizer is missing, damaged, or does not match the graph.
    """
    if task.generates:
        return _prompts_of(prompt_reader(folder, record, read_tokenizer(folder, record)))
    inputs = {value.name: value.shape for value in open_session(graph, optimize=False).get_inputs()}
    return _rows_of(make_reader(folder, record, inputs, task))


def _prompts_of(reader: PromptReader) -> Read:
    def read(texts: Sequence[object]) -> dict[str, Array]:
        return left_padded([np.array(reader.ids(text, number), np.int64) for number, text in enumerate(texts)])

    return read


def _rows_of(reader: Reader) -> Read:
    """Of a text that takes several windows, the first is read."""

    def read(texts: Sequence[object]) -> dict[str, Array]:
        first = {row.owner: row for row in reversed(reader.rows(texts))}
        rows = [first[number] for number in range(len(texts))]
        return reader.feed(rows, max(1, *(row.length for row in rows)))

    return read
