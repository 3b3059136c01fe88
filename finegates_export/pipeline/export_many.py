"""The verb `export_many`: many runs, each as by `export`, with every base read once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.options import check
from finegates_export.common.places import followed
from finegates_export.errors import FineGatesError, FormRefusedError
from finegates_export.pipeline.export import check_place, export
from finegates_export.pipeline.memory import collect, peak_bytes
from finegates_export.pipeline.options import ExportOptions
from finegates_export.pipeline.report import MIB, ExportReport

if TYPE_CHECKING:
    from finegates_export.sources.run_folder import RunInfo
    from finegates_export.sources.shared_base import SharedBase

    Group = list[tuple[int, RunInfo | None]]
    """Numbers and records of runs of one base; saved shrunk models, which have no base, are a group as well."""

Say = Callable[[str], None]
BaseKey = tuple[str | None, str | None]
"""A base's name and revision."""


@dataclass(frozen=True)
class RunExport:
    """The outcome of one of many runs: its report, or its error."""

    options: ExportOptions
    report: ExportReport | None
    error: str | None
    form_refused: bool = False
    """Whether only the quantized form failed; the float bundle was written."""

    def to_json(self) -> dict[str, object]:
        """Run, destination, and report or error, as JSON types."""
        where = {"ckpt": str(self.options.ckpt), "out": str(self.options.out) if self.options.out else None}
        return {**where, **(self.report.to_json() if self.report else {"error": self.error})}

    def __str__(self) -> str:
        name, report = str(self.options.ckpt), self.report
        if report is None:
            return f"{name}: {'its quantized form was refused' if self.form_refused else 'failed'}"
        if report.after is None:
            return f"{name}:\n{report}"
        worst = max(max(link.relative, link.hidden_relative or 0.0) for link in report.links if link.exact)
        before, after = (size.size_bytes / MIB for size in (report.before, report.after))
        return (
            f"{name}: {report.plan.removed:.1%} removed, {before:.1f} -> {after:.1f} MiB, differs by {worst:.1e} of "
            f"the scale, {report.seconds:.1f} s, wrote {self.options.out}"
        )


@dataclass(frozen=True)
class ManyExports:
    """The outcome of `export_many`; `str()` of it is what the command prints."""

    runs: tuple[RunExport, ...]
    """In the order in which they were given."""
    bases: int
    """Distinct bases that were read."""
    seconds: float
    peak_memory_bytes: int
    """Growth of the peak resident memory since the first export began, imports included."""

    @property
    def failures(self) -> tuple[str, ...]:
        """A line for every run that failed."""
        return tuple(f"{run.options.ckpt}: {run.error}" for run in self.runs if run.error is not None)

    @property
    def wrote_all_floats(self) -> bool:
        """Whether nothing failed but quantized forms."""
        return all(run.form_refused for run in self.runs if run.error is not None)

    def to_json(self) -> list[dict[str, object]]:
        """The runs, as JSON types."""
        return [run.to_json() for run in self.runs]

    def __str__(self) -> str:
        done = len(self.runs) - len(self.failures)
        act = "planned" if all(run.options.plan_only for run in self.runs) else "exported"
        summary = (
            f"{done} of {len(self.runs)} runs {act}; bases read: {self.bases}; {self.seconds:.1f} s, peak memory "
            f"grew by {self.peak_memory_bytes / MIB:.0f} MiB"
        )
        return "\n".join([*map(str, self.runs), "", summary])


def export_many(options: Sequence[ExportOptions], say: Say | None = None) -> ManyExports:
    """Export many runs, each as `export` would, and read every distinct base once.

    Runs of one base are exported one after the other, and memory holds one base at a time. A run that fails does not
    stop the others.

    Args:
        options: the exports, each with a destination of its own.
        say: called with progress messages, a line each; default: none.

    Raises:
        ValueError: two exports have the same destination.
        OutputError: a destination cannot be written. Both are found before anything runs.
    """
    started, resident = time.perf_counter(), peak_bytes()
    _check_places(options)
    many = _Many(options, say or _silent)
    runs = many.run()
    return ManyExports(runs, many.bases, time.perf_counter() - started, peak_bytes() - resident)


def _check_places(options: Sequence[ExportOptions]) -> None:
    taken: dict[Path, Path] = {}
    for one in options:
        if one.out is None:
            continue
        place = followed(one.out)
        other = taken.setdefault(place, one.ckpt)
        check(other is one.ckpt, "out", f"{other} and {one.ckpt} would both be written to {one.out}; name them apart")
    for one in options:
        check_place(one)


class _Many:
    """The exports in progress.

    Args:
        options: the exports.
        say: called with progress messages.
    """

    def __init__(self, options: Sequence[ExportOptions], say: Say) -> None:
        self.options, self.say = options, say
        self.bases = 0
        self._results: dict[int, RunExport] = {}

    def run(self) -> tuple[RunExport, ...]:
        """Run them all, base by base."""
        for group in self._groups():
            self._export_group(group)
            collect()
        return tuple(self._results[number] for number in range(len(self.options)))

    def _groups(self) -> list[Group]:
        """The runs by base, in the order of each base's first run."""
        groups: dict[BaseKey, Group] = {}
        for number, one in enumerate(self.options):
            try:
                info = _info(one)
            except (FineGatesError, ValueError) as error:
                self._fail(number, error)
                continue
            groups.setdefault(_base_key(one, info), []).append((number, info))
        return list(groups.values())

    def _export_group(self, group: Group) -> None:
        """Export every run of one base; the base is freed when this returns."""
        try:
            base = self._find_base(*group[0])
        except FineGatesError as error:
            for number, _ in group:
                self._fail(number, error)
            return
        for number, _ in group:
            one = self.options[number]
            self.say(f"exporting {one.ckpt} ({len(self._results) + 1} of {len(self.options)})")
            try:
                self._results[number] = RunExport(one, export(one, base), None)
            except Exception as error:  # noqa: BLE001  # whatever stops one run must not stop the others
                self._fail(number, error)

    def _find_base(self, number: int, info: RunInfo | None) -> SharedBase | None:
        from finegates_export.sources.assemble import find_base_of
        from finegates_export.sources.shared_base import SharedBase

        if info is None:
            return None
        base = SharedBase.of(find_base_of(info, self.options[number].base))
        self.bases += 1
        return base

    def _fail(self, number: int, error: Exception) -> None:
        told = "" if isinstance(error, (FineGatesError, ValueError)) else f"{type(error).__name__}: "
        line, refused = told + " ".join(str(error).split()), isinstance(error, FormRefusedError)
        self._results[number] = RunExport(self.options[number], None, line, refused)


def _info(options: ExportOptions) -> RunInfo | None:
    """The run's record; None for a saved shrunk model, which has no base."""
    from finegates_export.pruning.shrunk_folder import is_shrunk
    from finegates_export.sources.run_folder import read_info

    return None if is_shrunk(options.ckpt) else read_info(options.ckpt)


def _base_key(options: ExportOptions, info: RunInfo | None) -> BaseKey:
    if info is None:
        return (None, None)
    return (options.base, None) if options.base else (info.base_id, info.base_revision)


def _silent(_line: str) -> None:
    """Ignore progress messages."""
