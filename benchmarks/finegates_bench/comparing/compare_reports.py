"""The verb `compare`: two reports side by side, and whether a model got slower."""

from __future__ import annotations

from collections.abc import Iterator

from finegates_bench.comparing.compare_options import CompareOptions
from finegates_bench.comparing.comparison import Comparison, Pair, Side
from finegates_bench.measuring.results import BenchReport, ModelResult, Stamp
from finegates_bench.reports.report_reading import read_report
from finegates_export.errors import InputError

RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


def compare(options: CompareOptions) -> Comparison:
    """Read two reports and match their models by id and their timings by shape.

    Args:
        options: the reports, and the limit for slower models.

    Raises:
        InputError: a report cannot be read, the two have no model or shape in common, a requested shape is missing
            from one, or milliseconds of two machines would be compared.
    """
    before, after = read_report(options.before), read_report(options.after)
    machines = tuple(_machine_notes(before.stamp, after.stamp))
    if machines and options.absolute:
        raise InputError(
            f"--absolute compares milliseconds, but {options.before} and {options.after} were measured on different "
            f"machines ({'; '.join(machines)}); omit --absolute to compare ratios to the unpruned model"
        )
    shapes = _shapes(before, after, options)
    own, other = ({model.id: model for model in report.models} for report in (before, after))
    common = [name for name in own if name in other]
    if not common:
        raise InputError(
            f"{options.before} and {options.after} have no model in common: {', '.join(own)} before, "
            f"{', '.join(other)} after"
        )
    return Comparison(
        before=f"{options.before}, measured {before.stamp.date}",
        after=f"{options.after}, measured {after.stamp.date}",
        metric_name=before.metric_name,
        pairs=tuple(_pair(own[name], other[name], shape) for shape in shapes for name in common),
        only_before=tuple(name for name in own if name not in other),
        only_after=tuple(name for name in other if name not in own),
        notes=(
            *(f"Measured on different machines, {note}." for note in machines),
            *_version_notes(before.stamp, after.stamp),
            *_report_notes(before, after),
            *(() if options.shapes else _shape_notes(before, after)),
        ),
        limit=options.fail_above,
        absolute=options.absolute,
    )


def _shapes(before: BenchReport, after: BenchReport, options: CompareOptions) -> tuple[str, ...]:
    for shape in options.shapes:
        for place, report in ((options.before, before), (options.after, after)):
            if shape not in report.shapes:
                raise InputError(f"shapes: {place} has no {shape}; it has {', '.join(report.shapes)}")
    common = options.shapes or tuple(shape for shape in before.shapes if shape in after.shapes)
    if not common:
        raise InputError(
            f"{options.before} and {options.after} have no shape in common: {', '.join(before.shapes)} before, "
            f"{', '.join(after.shapes)} after"
        )
    return common


def _pair(before: ModelResult, after: ModelResult, shape: str) -> Pair:
    trained = before.trained and after.trained
    return Pair(before.id, before.label, trained, shape, _side(before, shape), _side(after, shape))


def _side(model: ModelResult, shape: str) -> Side:
    timing = model.timing(shape)
    return Side(timing.p50_ms, timing.ratio, model.metric)


def _machine_notes(before: Stamp, after: Stamp) -> Iterator[str]:
    """How the machines differ; empty if times are comparable."""
    for name in ("processor", "cores", "threads", "provider", "accelerator"):
        one, other = getattr(before, name), getattr(after, name)
        if one != other:
            yield f"{name}: {one or 'none'} before, {other or 'none'} after"


def _version_notes(before: Stamp, after: Stamp) -> Iterator[str]:
    for name in RUNTIMES:
        one, other = (stamp.versions.get(name, "none") for stamp in (before, after))
        if one != other:
            yield f"Measured with different versions, {name}: {one} before, {other} after."


def _report_notes(before: BenchReport, after: BenchReport) -> Iterator[str]:
    """Differences that make ratios or metrics of two reports incomparable."""
    for words, name in (
        ("Not the same target", "target"),
        ("Not the same base", "base"),
        ("Not the same unpruned model", "unpruned"),
        ("Not the same metric", "metric_name"),
        ("Not the same rows for the metric", "eval_rows"),
    ):
        one, other = getattr(before, name), getattr(after, name)
        if one != other:
            yield f"{words}: {one!r} before, {other!r} after."


def _shape_notes(before: BenchReport, after: BenchReport) -> Iterator[str]:
    for when, report, other in (("before", before, after), ("after", after, before)):
        lonely = [shape for shape in report.shapes if shape not in other.shapes]
        if lonely:
            yield f"Shapes only {when}: {', '.join(lonely)}."
