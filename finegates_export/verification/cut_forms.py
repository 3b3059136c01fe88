"""The model with the whole vocabulary, seen through a smaller one."""

from __future__ import annotations

from dataclasses import replace

from finegates_export.common.cache_layout import IDS
from finegates_export.common.tasks import LOGITS
from finegates_export.common.tasks.arrays import Array, Outputs
from finegates_export.pruning.vocabulary.cut import VocabularyCut
from finegates_export.verification.steps import CachedForm


def seen_by(cut: VocabularyCut, form: CachedForm) -> CachedForm:
    """A form of the model with the whole vocabulary, called with new ids; returns only the kept tokens' logits."""

    def run(inputs: dict[str, Array]) -> Outputs:
        outputs = form.run({**inputs, IDS: cut.kept[inputs[IDS]]})
        return {**outputs, LOGITS: outputs[LOGITS][..., cut.kept]}

    return replace(form, run=run)
