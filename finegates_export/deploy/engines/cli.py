"""The command `finegates-engine`."""

from __future__ import annotations

from finegates_export.common.commands import Command, Output, run_command
from finegates_export.deploy.engines.options import EngineOptions

SUMMARY = """Build TensorRT engines from a bundle exported with --target tensorrt.

--compute-capability sm80,sm89 builds for these GPUs, on a machine without one if need be (tensorrt-rtx)."""


def main() -> None:
    """Entry point."""
    run_command("finegates-engine", Command(SUMMARY, EngineOptions, _build))


def _build(options: EngineOptions, output: Output) -> None:
    from finegates_export.deploy.engines.build import build_engines

    report = build_engines(options)
    output.result(f"{report}\n\nwrote {options.out}", report.to_json())


if __name__ == "__main__":
    main()
