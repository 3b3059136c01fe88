"""What an export of a decoder with a cache is refused for, before any work is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.errors import UnsupportedError
from finegates_export.graphs.targets import PACKAGES, TARGETS
from finegates_export.graphs.targets.target import no_cache

if TYPE_CHECKING:
    from finegates_export.pipeline.options import ExportOptions


def check_cached(options: ExportOptions) -> None:
    """Refuse what does not go with a cache.

    Args:
        options: the export.

    Raises:
        UnsupportedError: the target, the opset or the quantization.
    """
    opset = None if options.target in PACKAGES else TARGETS[options.target].CACHED_OPSET
    if opset is None:
        raise no_cache(options.target)
    if options.opset is not None and options.opset < opset and options.target != "portable":
        raise UnsupportedError(
            f"--opset {options.opset}: {options.target} writes a decoder with operators of opset {opset}; leave "
            "--opset away, or use --target portable"
        )
    if options.quantize == "int8-static":
        raise UnsupportedError(
            "--quantize int8-static takes ranges from whole texts, and a decoder reads its text behind a cache; use "
            "--quantize int8 or int4"
        )
