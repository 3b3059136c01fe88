"""What the command refuses before it does anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finegates_bench.measuring.options import BenchOptions
from finegates_export.common.shapes import Shape


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"shapes": ("8by128",)}, "shapes"),
        ({"shapes": ("0x128",)}, "shapes"),
        ({"shapes": ()}, "shapes"),
        ({"shapes": ("1x8", "1X8")}, "shapes"),
        ({"what_if": (1.0,)}, "what-if"),
        ({"what_if": (-0.1,)}, "what-if"),
        ({"what_if": (0.3, 0.3)}, "what-if"),
        ({"what_if": (0.3, 0.30000001)}, "what-if"),
        ({"rounds": 0}, "rounds"),
        ({"seconds": -1.0}, "seconds"),
        ({"warmup": -1}, "warmup"),
        ({"processes": 0}, "processes"),
        ({"threads": 0}, "threads"),
        ({"min_agreement": 1.5}, "min-agreement"),
    ],
)
def test_bad_values_name_their_field(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        BenchOptions(ckpt=Path("run"), out=Path("out"), **settings)


def test_shapes_are_read_and_written_alike() -> None:
    options = BenchOptions(ckpt=Path("run"), out=Path("out"), shapes=("1x32", "16X64"))
    assert options.parsed_shapes() == (Shape(1, 32), Shape(16, 64))
    assert [str(shape) for shape in options.parsed_shapes()] == ["1x32", "16x64"]


def test_options_survive_json() -> None:
    options = BenchOptions(ckpt=Path("run"), out=Path("out"), what_if=(0.1, 0.3), baseline=Path("none"))
    assert BenchOptions.from_json(options.to_json()) == options
