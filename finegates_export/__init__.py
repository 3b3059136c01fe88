"""FineGates Export: fold trained gates and LoRA, cut away what they closed, prove it, and serve the rest from ONNX.

Importing this package imports neither torch nor transformers; each name imports what it needs when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.common.public_names import public_names
from finegates_export.common.telemetry import keep_quiet

if TYPE_CHECKING:  # what type checkers read; tests/test_public_face.py holds it equal to the table
    from finegates_export import errors as errors
    from finegates_export.pipeline.export import export as export
    from finegates_export.pipeline.export_many import ManyExports as ManyExports
    from finegates_export.pipeline.export_many import export_many as export_many
    from finegates_export.pipeline.options import ExportOptions as ExportOptions
    from finegates_export.pipeline.report import ExportReport as ExportReport
    from finegates_export.pipeline.verify import verify as verify
    from finegates_export.pruning.plan import ShrinkPlan
    from finegates_export.pruning.shrunk_folder import load_torch as load_torch
    from finegates_export.pruning.shrunk_folder import save_torch as save_torch
    from finegates_export.runtime import GenerationOptions as GenerationOptions
    from finegates_export.runtime import Predictor as Predictor
    from finegates_export.runtime import TextGenerator as TextGenerator
    from finegates_export.runtime import load as load
    from finegates_export.sources.shared_base import SharedBase as SharedBase
    from finegates_export.verification.link import Tolerances as Tolerances

    Plan = ShrinkPlan
    __version__: str
else:
    __getattr__, __dir__, __all__ = public_names(
        __name__,
        {
            "ExportOptions": "finegates_export.pipeline.options:ExportOptions",
            "ExportReport": "finegates_export.pipeline.report:ExportReport",
            "GenerationOptions": "finegates_export.runtime:GenerationOptions",
            "ManyExports": "finegates_export.pipeline.export_many:ManyExports",
            "Plan": "finegates_export.pruning.plan:ShrinkPlan",
            "Predictor": "finegates_export.runtime:Predictor",
            "SharedBase": "finegates_export.sources.shared_base:SharedBase",
            "TextGenerator": "finegates_export.runtime:TextGenerator",
            "Tolerances": "finegates_export.verification.link:Tolerances",
            "errors": "finegates_export.errors",
            "export": "finegates_export.pipeline.export:export",
            "export_many": "finegates_export.pipeline.export_many:export_many",
            "load": "finegates_export.runtime:load",
            "load_torch": "finegates_export.pruning.shrunk_folder:load_torch",
            "save_torch": "finegates_export.pruning.shrunk_folder:save_torch",
            "verify": "finegates_export.pipeline.verify:verify",
        },
    )

keep_quiet()
