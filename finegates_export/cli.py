"""The command `finegates-export`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal  # noqa: F401  # in the inherited fields' types, which the parser evaluates here

from finegates_export.common.commands import REFUSED_FORM_STATUS, USAGE_STATUS, Command, Output, run_command
from finegates_export.common.options import as_path, check
from finegates_export.deploy.triton.options import TritonOptions
from finegates_export.pipeline.options import ExportOptions

SUMMARY = """Fold a trained run, cut away what its gates closed, prove that nothing changed, and write ONNX.

--out FILE.onnx writes the graph alone, --out FOLDER/ a bundle. Several runs after --ckpt share one reading of their
base; each becomes a bundle FOLDER/NAME-OF-THE-RUN/. --config FILE.yaml reads options from YAML; flags override it.

`finegates-export triton` turns a bundle into a model repository for NVIDIA Triton."""
TRITON_SUMMARY = """Write a model repository for NVIDIA Triton that serves a bundle: text in, answer out.

The bundle's target decides what runs the graph, unless --device overrides it."""


@dataclass(frozen=True, kw_only=True)
class CommandOptions(ExportOptions):
    """Options of the command: those of an export, for one or more runs."""

    ckpt: tuple[Path, ...]  # type: ignore[assignment]  # the command alone takes several
    """Run folders, levels of runs, or saved shrunk models; one or more."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ckpt", tuple(as_path(folder) for folder in self.ckpt))
        check(len(self.ckpt) > 0, "ckpt", "names no run folder; give at least one")
        if len(self.ckpt) > 1:
            single_file = self.out is not None and Path(self.out).suffix == ".onnx"
            check(not single_file, "out", f"{self.out} is a file, but {len(self.ckpt)} runs need a folder")
            _check_names(self.ckpt)
        self.each()

    def each(self) -> tuple[ExportOptions, ...]:
        """One export per run; of several, each goes to a folder in `out` named after the run."""
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return tuple(ExportOptions(**{**shared, "ckpt": folder, "out": self._out(folder)}) for folder in self.ckpt)

    def _out(self, folder: Path) -> Path | None:
        return Path(self.out) / _name(folder) if self.out and len(self.ckpt) > 1 else self.out


def main() -> None:
    """Entry point."""
    triton = Command(TRITON_SUMMARY, TritonOptions, _write_repository)
    run_command("finegates-export", Command(SUMMARY, CommandOptions, _export), {"triton": triton})


def _export(options: CommandOptions, output: Output) -> None:
    each = options.each()
    if len(each) == 1:
        _export_one(each[0], output)
    else:
        _export_many(each, output)


def _export_one(options: ExportOptions, output: Output) -> None:
    from finegates_export.pipeline.export import export

    report = export(options)
    wrote = "" if options.plan_only else f"\n\nwrote {options.out}"
    output.result(f"{report}{wrote}", report.to_json())


def _export_many(each: tuple[ExportOptions, ...], output: Output) -> None:
    from finegates_export.pipeline.export_many import export_many

    done = export_many(each, output.say)
    output.result(str(done), done.to_json())
    output.fail(done.failures, REFUSED_FORM_STATUS if done.wrote_all_floats else USAGE_STATUS)


def _write_repository(options: TritonOptions, output: Output) -> None:
    from finegates_export.deploy.triton.repository import write_repository

    report = write_repository(options)
    output.result(f"{report}\n\nwrote {options.out}", report.to_json())


def _name(folder: Path) -> str:
    return folder.absolute().name


def _check_names(folders: tuple[Path, ...]) -> None:
    named: dict[str, Path] = {}
    for folder in folders:
        if _name(folder) in named:
            raise ValueError(
                f"ckpt: {named[_name(folder)]} and {folder} are both called {_name(folder)}, and bundles are named "
                "after their runs; export them separately"
            )
        named[_name(folder)] = folder
