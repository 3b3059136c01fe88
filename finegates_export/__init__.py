"""FineGates Export: fold trained gates and LoRA, cut away what they closed, prove it, and serve the rest from ONNX.

Importing this package imports neither torch nor transformers; each verb brings what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finegates_export.pipeline.export import export
    from finegates_export.pipeline.export_many import ManyExports, export_many
    from finegates_export.pipeline.options import ExportOptions
    from finegates_export.pipeline.verify import verify
    from finegates_export.pruning.shrunk_folder import load_torch, save_torch
    from finegates_export.runtime import GenerationOptions, Predictor, TextGenerator, load
    from finegates_export.sources.shared_base import SharedBase

__all__ = [
    "ExportOptions",
    "GenerationOptions",
    "ManyExports",
    "Predictor",
    "SharedBase",
    "TextGenerator",
    "export",
    "export_many",
    "load",
    "load_torch",
    "save_torch",
    "verify",
]

_HOMES = {
    "ExportOptions": "finegates_export.pipeline.options",
    "GenerationOptions": "finegates_export.runtime",
    "ManyExports": "finegates_export.pipeline.export_many",
    "Predictor": "finegates_export.runtime",
    "SharedBase": "finegates_export.sources.shared_base",
    "TextGenerator": "finegates_export.runtime",
    "export": "finegates_export.pipeline.export",
    "export_many": "finegates_export.pipeline.export_many",
    "load": "finegates_export.runtime",
    "load_torch": "finegates_export.pruning.shrunk_folder",
    "save_torch": "finegates_export.pruning.shrunk_folder",
    "verify": "finegates_export.pipeline.verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
