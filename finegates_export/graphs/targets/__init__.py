"""One file per deployment target: what it runs, which widths it prefers, which passes it needs."""

from __future__ import annotations

from finegates_export.graphs.targets import openvino, ort_cpu, ort_cuda, portable, tensorrt, web
from finegates_export.graphs.targets.target import Target

_ALL: tuple[Target, ...] = (ort_cpu, portable, openvino, ort_cuda, tensorrt, web)
TARGETS: dict[str, Target] = {target.NAME: target for target in _ALL}
"""Targets by name."""

PACKAGES: dict[str, str] = {"triton": ort_cpu.NAME}
"""Targets that are file layouts, and the target of the graph in each."""
