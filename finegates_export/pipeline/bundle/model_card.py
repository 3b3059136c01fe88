"""Writes a bundle's model card: what was trained, what was removed, and how it was verified."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from finegates_export.common.tasks import task_of
from finegates_export.common.words import in_code, in_markdown, in_yaml, licence_name
from finegates_export.pipeline.report import MIB, ExportReport
from finegates_export.verification.report import chain_table, recall_rows

if TYPE_CHECKING:
    from finegates_export.sources.run_folder import RunInfo


def model_card(info: RunInfo, report: ExportReport, graphs: list[str]) -> str:
    """The page.

    Args:
        info: what was trained.
        report: the export's outcome.
        graphs: the graphs' paths in the bundle.
    """
    after = report.after or report.before
    metrics = "\n".join(f"| {in_markdown(metric)} | {value:.4f} |" for metric, value in info.metrics.items())
    answer = f"labels: {', '.join(map(in_markdown, info.labels))}" if info.labels else task_of(info.task).gives
    name = licence_name(info.licence)
    stated = (
        in_markdown(name) if name else "another licence" if info.licence else "licence not stated by its model card"
    )
    licence = f"license: {in_yaml(name or 'other')}\n" if info.licence else ""
    return f"""---
{licence}library_name: onnxruntime
tags: [onnx, finegates, pruned]
---

# {in_markdown(info.base_name)}, {report.plan.removed:.0%} of the layers' linear weights removed

Task: {info.task}, {answer}. Made with FineGates Export from {in_code(info.base_name)} \
({stated}); graphs: {", ".join(map(in_code, graphs))}.

| metric on the run's evaluation rows | |
|---|---|
{metrics}

| | before | after |
|---|---|---|
| parameters | {report.before.parameters:,} | {after.parameters:,} |
| MiB | {report.before.size_bytes / MIB:.1f} | {after.size_bytes / MIB:.1f} |
{_vocabulary(report)}{_quantized(report)}
```python
from finegates_export import load

print(load("this/folder").{_example(info)})
```

The steps from the trained model to this one, checked on {report.rows} rows ({report.real_rows} of them real):

```
{chain_table(list(report.links), report.metric)}
```

```
{report.plan}
```
"""


def _example(info: RunInfo) -> str:
    """An example call of a loaded bundle, as Python."""
    task = task_of(info.task)
    if task.generates:
        return 'generate(["a text that goes on"])'
    if task.images:
        return "predict([pixel_values])"
    example = task.example if isinstance(task.example, tuple) else (task.example,)
    texts = ", ".join(json.dumps(text) for text in example)
    return f"predict([({texts})])" if task.needs_pair else f"predict([{texts}])"


def _vocabulary(report: ExportReport) -> str:
    """The number of tokens before and after a cut, and what the metrics above apply to; empty without one."""
    if report.vocabulary is None:
        return ""
    before, after = report.vocabulary
    return f"| tokens | {before:,} | {after:,} |\n\nThe metrics above are those of the model with all tokens.\n"


def _quantized(report: ExportReport) -> str:
    """The quantized form's size and accuracy, as a table of their own."""
    form = report.quantized
    if form is None:
        return ""
    left = f"{len(form.left_in_float) or 'none'} left in float"
    rows = [f"| MiB | {(report.after or report.before).size_bytes / MIB:.1f} | {form.size_bytes / MIB:.1f} |"]
    if form.metric is not None and form.float_metric is not None:
        rows.append(f"| {report.metric} on the rows of the chain below | {form.float_metric:.4f} | {form.metric:.4f} |")
    if form.agreement is not None:
        rows.append(f"| agreement with the trained model | | {form.agreement:.2%} |")
    if form.agreed is not None:
        rows.append(f"| equal predictions | | {form.agreed.equal:,} of {form.agreed.compared:,} |")
        if form.agreed.rare:
            told = f"{form.agreed.rare_equal:,} of {form.agreed.rare:,}"
            rows.append(f"| of those other than the most frequent answer | | {told} |")
        rows += [
            f"| {in_markdown(what)} | {before} | {after} |" for what, before, after in recall_rows(form.agreed.recalls)
        ]
    table = "\n".join(rows)
    told = f"\nint8 weights have {form.weight_bits} bits; {form.holds}.\n" if form.weight_bits is not None else ""
    return f"""
| {form.products} linears quantized, {left} | float | {form.quantization} |
|---|---|---|
{table}
{told}"""
