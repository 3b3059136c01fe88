"""`make bench-quick`, on an even smaller model: a report from nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from finegates_bench import read_report

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))

import quick  # a script, not of a package

SMALLER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


@pytest.mark.exhaustive
def test_a_report_needs_nothing_but_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quick, "SIZES", {**quick.SIZES, **SMALLER, "vocab_size": 50})
    monkeypatch.setattr(quick, "SHARES", (0.4,))
    monkeypatch.setattr(quick, "SHAPES", ("1x8",))
    monkeypatch.setattr(quick, "SECONDS", 0.0)
    out = tmp_path / "report"
    monkeypatch.setattr(sys, "argv", ["quick.py", "--out", str(out), "--threads", "1"])
    quick.main()
    models = [model.id for model in read_report(out).models if model.precision == "float32"]
    assert models == ["unpruned", "level-0.00", "what-if-0.4"]
    assert str(out / "index.html") in capsys.readouterr().out
    page = (out / "index.html").read_text()
    assert "closed without training" in page
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
