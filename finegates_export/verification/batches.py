"""The inputs that a run is verified on, by task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from finegates_export.common.tasks import task_of
from finegates_export.common.tasks.arrays import Array
from finegates_export.families.model_config import ModelConfig
from finegates_export.sources.sample_texts import SampleText, as_input
from finegates_export.sources.tokenizer import run_text_inputs
from finegates_export.verification.inputs import MASK, REAL_BATCH, Batch, longest_sequence, make_inputs
from finegates_export.verification.kept_rows import check_rows, check_texts
from finegates_export.verification.prompts import left_padded, make_prompts

PROMPTS = 4
"""Most prompts of a run that are read: every token has logits over a whole vocabulary."""

if TYPE_CHECKING:
    from finegates_export.families.family import Family
    from finegates_export.sources.run_folder import Run


def inputs_for(run: Run, family: Family, config: ModelConfig, seed: int = 0) -> list[Batch]:
    """The batches of a verification.

    Args:
        run: the run to verify.
        family: its family.
        config: its base's config.
        seed: seed of random inputs.

    Raises:
        RunFolderError: the rows that the run kept are damaged.
    """
    task = task_of(run.info.task)
    check_rows(run.samples, task, config, family.input_names(config))
    if not task.images:
        check_texts(run.texts, config, family.max_length(config))
    if task.generates:
        made = make_prompts(run.samples, config.vocab_size, family.max_length(config), seed)
        return [*made, *_prompts(run.texts[:PROMPTS])]
    longest = longest_sequence(family, config, run.info.max_length)
    names = family.input_names(config)
    made = make_inputs(run.samples, task, config, names, longest, seed)
    return [*made, *_texts(run, names)] if run.texts else made


def _texts(run: Run, names: tuple[str, ...]) -> list[Batch]:
    """The rows that training read for the run's texts, and the texts."""
    how, task = run_text_inputs(run.info, run.folder), task_of(run.info.task)
    if how is None:
        return []
    batches = []
    texts = sorted(run.texts, key=lambda one: len(one.ids))
    for start in range(0, len(texts), REAL_BATCH):
        own = texts[start : start + REAL_BATCH]
        columns = {
            "input_ids": padded([one.ids for one in own], how.pad_token_id),
            MASK: padded([(1,) * len(one.ids) for one in own], 0),
            "token_type_ids": padded([one.segments or (0,) * len(one.ids) for one in own], 0),
        }
        given = tuple(as_input(one.given, task) for one in own)
        batches.append(Batch({name: columns[name] for name in names}, texts=given))
    return batches


def _prompts(texts: tuple[SampleText, ...]) -> list[Batch]:
    """The same for prompts, which are padded on the left."""
    return [Batch(left_padded([np.array(one.ids, np.int64)]), texts=(one.given,)) for one in texts if one.ids]


def padded(rows: Sequence[Sequence[int]], filler: int) -> Array:
    """Rows of different lengths as one array, shape (B, S), filled behind them."""
    longest = max(len(row) for row in rows)
    return np.array([[*row, *[filler] * (longest - len(row))] for row in rows], np.int64)
