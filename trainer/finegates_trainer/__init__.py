"""The training stage: gates, LoRA and a task head on a frozen base, written as a run folder.

Importing this package imports neither torch nor transformers; each name imports what it needs when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.common.public_names import public_names

if TYPE_CHECKING:  # what type checkers read; tests/test_public_face.py holds it equal to the table
    from finegates_trainer.options import TrainOptions as TrainOptions
    from finegates_trainer.running.training import train as train

    __version__: str
else:
    __getattr__, __dir__, __all__ = public_names(
        __name__,
        {
            "TrainOptions": "finegates_trainer.options:TrainOptions",
            "train": "finegates_trainer.running.training:train",
        },
    )
