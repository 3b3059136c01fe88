"""The metadata of an ONNX file, for servers that have only the graph."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from finegates_export.pruning.plan import ShrinkPlan

if TYPE_CHECKING:
    from finegates_export.sources.run_folder import RunInfo

METADATA_PREFIX = "finegates."


def graph_metadata(info: RunInfo, plan: ShrinkPlan) -> dict[str, str]:
    """What a server with only the graph needs to know, as the file's metadata properties."""
    values = {
        "task": info.task,
        "labels": json.dumps(list(info.labels)),
        "max_length": str(info.max_length),
        "base": info.base_name,
        "removed": f"{plan.removed:.6f}",
    }
    if info.pooling is not None:
        values |= {"pooling": info.pooling, "normalize": json.dumps(info.normalize)}
    return {METADATA_PREFIX + name: value for name, value in values.items()}
