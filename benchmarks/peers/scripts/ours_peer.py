"""Ours: the unpruned and the pruned run exported by `finegates-export`; also portable files, for runtimes that ask."""

from __future__ import annotations

import numpy as np
from bundles import bundle_models, common_options, export_bundle, gated_logits
from contract import PORTABLE, Arguments, Model, run_script

from finegates_export import ExportOptions, export


def make(arguments: Arguments) -> list[Model]:
    """Unpruned and pruned, float32 and int8."""
    models = []
    for name, run in (("unpruned", arguments.run), ("pruned", arguments.level)):
        report = export_bundle(arguments, run, arguments.out / name)
        portable = arguments.out / PORTABLE / f"{name}.onnx"
        export(ExportOptions(ckpt=run, out=portable, target="portable", **common_options(arguments)))
        expected_BC = gated_logits(arguments, run)
        np.save(portable.with_suffix(".npy"), expected_BC)
        removed = report.plan.removed
        title = f"{removed:.0%} removed, ours" if removed else "unpruned, ours"
        models += bundle_models(arguments, name, report, expected_BC, f"ours-{name}", title)
    return models


if __name__ == "__main__":
    run_script(__doc__, ("torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime"), make)
