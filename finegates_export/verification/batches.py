"""The inputs that a run is verified on, by task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.common.tasks import task_of
from finegates_export.families.model_config import ModelConfig
from finegates_export.verification.inputs import Batch, longest_sequence, make_inputs
from finegates_export.verification.kept_rows import check_rows
from finegates_export.verification.prompts import make_prompts

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
    if task.generates:
        return make_prompts(run.samples, config.vocab_size, family.max_length(config), seed)
    longest = longest_sequence(family, config, run.info.max_length)
    return make_inputs(run.samples, task, config, family.input_names(config), longest, seed)
