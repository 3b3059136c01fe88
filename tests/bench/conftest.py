"""Two tiny trained runs on one base, and one measurement of them that most tests read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finegates_bench.measuring.exports import Exported
from finegates_bench.measuring.options import BenchOptions
from finegates_bench.measuring.results import BenchReport

QUICK: dict[str, Any] = {
    "shapes": ("1x8", "2x16"),
    "rounds": 4,
    "seconds": 0.0,
    "warmup": 1,
    "processes": 2,
    "threads": 1,
}
WHAT_IF = 0.3


@pytest.fixture(scope="session")
def gated_run(tmp_path_factory: pytest.TempPathFactory, base: Path, rows: Path) -> Path:
    """Coupled gates at two levels."""
    return train_tiny(tmp_path_factory.mktemp("runs") / "gated", base, rows, layout="coupled", levels=(0.2, 0.4))


@pytest.fixture(scope="session")
def unpruned_run(tmp_path_factory: pytest.TempPathFactory, base: Path, rows: Path) -> Path:
    """The same base and rows without gates."""
    return train_tiny(tmp_path_factory.mktemp("runs") / "unpruned", base, rows, layout="none")


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory, gated_run: Path, unpruned_run: Path) -> BenchReport:
    """Both levels, a what-if and the unpruned model, in float32 and int8."""
    from finegates_bench import measure

    out = tmp_path_factory.mktemp("bench") / "report"
    # A dozen steps leave predictions near the boundary, where int8 flips them.
    lenient = {"min_agreement": 0.0, "max_metric_loss": 100.0}
    options = BenchOptions(
        ckpt=gated_run, out=out, baseline=unpruned_run, what_if=(WHAT_IF,), int8=True, **lenient, **QUICK
    )
    report = measure(options)
    assert list(out.parent.iterdir()) == []
    return report


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, gated_run: Path) -> Exported:
    """The graph of the level 0.40."""
    from finegates_bench.measuring.exports import export_candidate
    from finegates_bench.measuring.levels import own_levels
    from finegates_export.sources.assemble import base_of
    from finegates_export.sources.run_folder import read_run

    run = read_run(gated_run)
    folder = tmp_path_factory.mktemp("exported") / "level"
    options = BenchOptions(ckpt=gated_run, out=folder, **QUICK)
    return next(export_candidate(own_levels(run)[-1], base_of(run), options, folder))


@pytest.fixture(scope="session")
def report_folder(tmp_path_factory: pytest.TempPathFactory, measured: BenchReport) -> Path:
    """The measurement as files."""
    from finegates_bench import report

    out = tmp_path_factory.mktemp("files") / "report"
    report(measured, out)
    return out


def train_tiny(out: Path, base: Path, rows: Path, **settings: Any) -> Path:
    """A dozen steps."""
    from finegates_trainer import TrainOptions, train

    train(
        TrainOptions(
            base=str(base), data=str(rows), out=out, max_steps=12, max_length=32, lora_rank=2, samples=16, **settings
        )
    )
    return out
