"""FineGates Export: fold trained gates and LoRA, cut away what they closed, prove it, and serve the rest from ONNX.

Importing this package imports neither torch nor transformers; each verb brings what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finegates_export.export_options import ExportOptions
    from finegates_export.exporter import export
    from finegates_export.families.shared_base import SharedBase
    from finegates_export.many_exports import ManyExports, export_many
    from finegates_export.runtime import GenerationOptions, Predictor, TextGenerator, load
    from finegates_export.shrunk import load_torch, save_torch
    from finegates_export.verification.verify import verify

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
    "ExportOptions": "finegates_export.export_options",
    "GenerationOptions": "finegates_export.runtime",
    "ManyExports": "finegates_export.many_exports",
    "Predictor": "finegates_export.runtime",
    "SharedBase": "finegates_export.families.shared_base",
    "TextGenerator": "finegates_export.runtime",
    "export": "finegates_export.exporter",
    "export_many": "finegates_export.many_exports",
    "load": "finegates_export.runtime",
    "load_torch": "finegates_export.shrunk",
    "save_torch": "finegates_export.shrunk",
    "verify": "finegates_export.verification.verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
