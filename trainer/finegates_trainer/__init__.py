"""The training stage: gates, LoRA and a task head on a frozen base, written as a run folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finegates_trainer.options import TrainOptions
    from finegates_trainer.running.training import train

__all__ = ["TrainOptions", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        from finegates_trainer.running.training import train

        return train
    if name == "TrainOptions":
        from finegates_trainer.options import TrainOptions

        return TrainOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
