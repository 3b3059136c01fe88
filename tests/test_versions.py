"""What `make test-versions` asks pip for, and that every bounded package has both bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import versions
from tests.pythons import Failed

PROJECT = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
BOUNDS = '"torch>=2.13,<2.15", "transformers>=5.20.2,<5.25", "onnxruntime>=1.23.2,<2"'


def test_the_ends_are_those_of_the_project() -> None:
    assert versions.requirements("oldest", BOUNDS) == ["torch==2.13", "transformers==5.20.2", "onnxruntime==1.23.2"]
    assert versions.requirements("newest", BOUNDS) == ["torch<2.15", "transformers<5.25", "onnxruntime<2"]
    assert all(len(versions.requirements(end, PROJECT)) == 3 for end in ("oldest", "newest"))


def test_a_package_without_bounds_is_told() -> None:
    with pytest.raises(Failed, match="gives transformers no oldest and newest version"):
        versions.requirements("newest", BOUNDS.replace("transformers>=5.20.2,<5.25", "transformers"))


def test_an_extra_that_exports_brings_what_runs_graphs() -> None:
    (extra,) = [part for part in PROJECT.split("\n\n") if "\nexport = [" in part]
    listed = extra.split("\nexport = [")[1].split("]\n")[0]
    assert "finegates-export[cpu" in listed
