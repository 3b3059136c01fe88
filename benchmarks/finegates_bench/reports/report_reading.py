"""A report from its folder."""

from __future__ import annotations

import json
from pathlib import Path

from finegates_bench.measuring.results import REPORT_JSON, BenchReport
from finegates_export.errors import InputError


def read_report(place: Path) -> BenchReport:
    """Read a report.

    Args:
        place: its folder or its report.json.

    Raises:
        InputError: it is missing, cannot be read, is not a report, or has another schema version.
    """
    path = place / REPORT_JSON if place.is_dir() else place
    if not path.is_file():
        raise InputError(f"{path} does not exist; give the folder of a report or its {REPORT_JSON}")
    try:
        return BenchReport.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
