"""Runs as our exporter's bundles, with int8 beside float32, and what to tell of their graphs.

Shapes: B rows, C labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contract import CHECKED_ROWS, Arguments, Array, Model, all_logits, compared, read_rows
from onnx_files import FLOAT32, INT8, onnx_forward, own_operators
from torch_model import torch_forward

from finegates_export import ExportOptions, export
from finegates_export.pipeline.report import ExportReport


def export_bundle(arguments: Arguments, run: Path, out: Path, **options: Any) -> ExportReport:
    """A run as a user exports it, with int8 beside float32."""
    common = {**common_options(arguments), **options}
    tolerances = {"min_agreement": arguments.agreement, "max_metric_loss": arguments.metric_loss}
    return export(ExportOptions(ckpt=run, out=out, quantize="int8", **tolerances, **common))


def gated_logits(arguments: Arguments, run: Path, base: Path | None = None) -> Array:
    """What a run's gated torch model says on the checked rows, shape (B, C)."""
    from finegates_export.sources.assemble import assemble, base_of
    from finegates_export.sources.run_folder import read_run

    read = read_run(run)
    gated = assemble(read, base_of(read, str(base or arguments.base))).gated
    return all_logits(torch_forward(gated), read_rows(arguments.rows, "eval")[0], CHECKED_ROWS)


def bundle_models(
    arguments: Arguments, folder: str, report: ExportReport, expected_BC: Array, id_: str, title: str
) -> list[Model]:
    """What to tell of a bundle's two graphs.

    Args:
        arguments: the script's.
        folder: the bundle, in `arguments.out`.
        report: what the export said.
        expected_BC: logits of the gated torch model on the checked rows.
        id_: of the float32 model.
        title: of the float32 model.
    """
    inputs, _ = read_rows(arguments.rows, "eval")
    models = []
    for file, precision, ending in ((FLOAT32, "float32", ""), (INT8, "int8", "int8")):
        path = arguments.out / folder / file
        models.append(
            Model(
                id=f"{id_}-{ending}" if ending else id_,
                title=f"{title}, {ending}" if ending else title,
                runtime="onnxruntime",
                parameters=(report.after or report.before).parameters,
                file=f"{folder}/{file}",
                precision=precision,
                removed=report.plan.removed,
                fused=own_operators(path),
                **compared(expected_BC, all_logits(onnx_forward(path), inputs, CHECKED_ROWS)),
            )
        )
    return models


def common_options(arguments: Arguments) -> dict[str, Any]:
    """What every export is told."""
    return {"base": str(arguments.base), "threads": arguments.threads, "seed": arguments.seed}
