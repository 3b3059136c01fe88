"""One file per deployment target: what it can run, how it likes its widths, which passes it needs."""

from __future__ import annotations

from finegates_export.graphs.targets import ort_cpu, ort_cuda, portable, tensorrt, web
from finegates_export.graphs.targets.target import Target

_ALL: tuple[Target, ...] = (ort_cpu, portable, ort_cuda, tensorrt, web)
TARGETS: dict[str, Target] = {target.NAME: target for target in _ALL}
"""Targets by the name users give."""

PACKAGES: dict[str, str] = {"triton": ort_cpu.NAME}
"""What users name like a target and is a way to lay out files, and the target of the graph in them."""
