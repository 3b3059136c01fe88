"""What `make test-pythons` takes for an interpreter, for a failure, and for other answers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import pythons

OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def shim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that stands on the PATH for a version that is not chosen, with nothing else there."""
    path = tmp_path / f"python{OWN}"
    path.write_text(f"#!/bin/sh\necho 'pyenv: python{OWN}: command not found' >&2\nexit 127\n", encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    return path


def test_an_interpreter_that_does_not_start_is_none(shim: Path) -> None:
    assert pythons.find_python(OWN) is None


def test_one_of_pyenv_s_is_found_behind_its_shim(shim: Path, tmp_path: Path) -> None:
    real = tmp_path / "pyenv" / "versions" / f"{OWN}.99" / "bin" / "python"
    real.parent.mkdir(parents=True)
    real.symlink_to(sys.executable)
    assert pythons.find_python(OWN) == real
    assert pythons.find_python("2.6") is None


def test_a_command_that_fails_is_told_on_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pythons, "PLACE", tmp_path)
    with pytest.raises(pythons.Failed, match=r"prediction: ValueError: no such thing$"):
        pythons.run([sys.executable, "-c", "raise ValueError('no such thing')"])


def test_other_scores_and_other_labels_differ() -> None:
    expected = [{"good": 0.75, "bad": 0.25}]
    assert pythons.difference(expected, expected) == 0.0
    assert pythons.difference([{"good": 0.5, "bad": 0.5}], expected) == 0.25
    assert pythons.difference([{"good": 0.75}], expected) == float("inf")
