"""One file per deployment target: what it can run, how it likes its widths, which passes it needs."""

from __future__ import annotations

from types import ModuleType

from finegates_export.targets import ort_cpu

TARGETS: dict[str, ModuleType] = {module.NAME: module for module in (ort_cpu,)}
"""Target modules by the name users give."""
