"""The command `finegates-export`."""

from __future__ import annotations

from finegates_export.commands import Output, run_command
from finegates_export.exporter import ExportOptions

SUMMARY = """Fold a trained run, cut away what its gates closed, prove that nothing changed, and write ONNX.

--out FILE.onnx writes the graph alone, --out FOLDER/ a bundle. --config FILE.yaml reads options from YAML."""


def main() -> None:
    """Entry point."""
    run_command("finegates-export", SUMMARY, ExportOptions, _export)


def _export(options: ExportOptions, output: Output) -> None:
    from finegates_export.exporter import export

    report = export(options)
    wrote = "" if options.plan_only else f"\n\nwrote {options.out}"
    output.result(f"{report}{wrote}", report.to_json())
