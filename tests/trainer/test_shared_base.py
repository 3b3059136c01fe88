"""Several runs trained in one process over one base in memory: the same runs, and the base stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from finegates_export.errors import InputError
from finegates_export.sources.run_folder import Run
from finegates_export.sources.shared_base import SharedBase
from finegates_trainer import TrainOptions, train


def test_runs_over_a_shared_base_are_those_over_a_base_of_their_own(base: Path, rows: Path, tmp_path: Path) -> None:
    shared = SharedBase.find(str(base))

    def trained(name: str, given: SharedBase | None) -> Run:
        options = TrainOptions(
            base=str(base), data=str(rows), out=tmp_path / name, max_steps=6, batch_size=8, max_length=24,
            lora_rank=2, train_biases=True, target_removed=0.3,
        )  # fmt: skip
        return train(options, base=given)

    runs = [trained("first", shared), trained("second", shared), trained("alone", None)]
    digests = [run.info.files for run in runs]
    assert digests[0] == digests[1] == digests[2]
    stored, head = load_file(base / "model.safetensors"), runs[0].head
    assert "classifier.weight" in head
    assert not any(head[name].equal(stored[name]) for name in head), "what is trained must differ from the base's"

    model = shared.load("classification", ("bad", "medium", "nice"))
    for parameter in model.classifier.parameters():
        parameter.data.add_(1.0)
    with pytest.raises(InputError, match=r"tensor classifier\.\w+ was changed in memory"):
        trained("refused", shared)
