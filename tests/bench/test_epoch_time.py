"""The epoch's benchmark: all rows once, in batches of their own lengths, and numbers that fit together."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import epoch_time  # noqa: E402  # a script, not of a package
import epoch_worker  # noqa: E402


def epoch(monkeypatch: pytest.MonkeyPatch, base: Path, out: Path, *more: str) -> None:
    words = ["--base", str(base), "--out", str(out), "--rounds", "2", "--threads", "1", *more]
    monkeypatch.setattr(sys, "argv", ["epoch_time.py", *words])
    epoch_time.main()


@pytest.mark.slow
def test_it_times_all_rows_of_a_file_at_every_share(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch(monkeypatch, base, tmp_path / "epoch", "--data", str(rows), "--removed", "0,0.5")
    assert {path.name for path in tmp_path.iterdir()} == {f"epoch.{end}" for end in ("json", "md", "png", "svg")}
    result = json.loads((tmp_path / "epoch.json").read_text())
    assert (result["rows"], result["data"], result["rounds"]) == (96, "rows.tsv", 2)
    assert result["tokens"] < result["padded_tokens"] < 2 * result["tokens"]
    unpruned, half = result["models"]
    assert (unpruned["removed"], unpruned["ratio"], unpruned["kept_flops"]) == (0.0, 1.0, 1.0)
    assert half["removed"] == pytest.approx(0.5, abs=0.02)
    assert 0.4 < half["kept_flops"] < 0.6
    assert half["low"] <= half["ratio"] <= half["high"]
    assert half["rows_per_second"] == pytest.approx(96 / half["seconds"])
    page = (tmp_path / "epoch.md").read_text()
    assert f"| {half['ratio']:.3f} | {half['low']:.3f} to {half['high']:.3f} |" in page
    assert "`rows.tsv`: " in page
    assert "kept FLOPs" in (tmp_path / "epoch.svg").read_text()


def test_batches_hold_every_row_once_and_are_as_long_as_their_longest(tmp_path: Path) -> None:
    texts = sorted(epoch_time.draw_texts(70, 64), key=len)
    texts = [np.full(len(text), number + 1) for number, text in enumerate(texts)]
    lengths = np.array([len(text) for text in texts])
    np.savez(tmp_path / "rows.npz", ids=np.concatenate(texts), lengths=lengths)
    batches = epoch_worker.read_batches(tmp_path / "rows.npz", 32)
    assert [batch["input_ids"].shape for batch in batches] == epoch_time.batch_shapes(lengths)
    assert [len(batch["input_ids"]) for batch in batches] == [32, 32, 6]
    assert sum(int(batch["attention_mask"].sum()) for batch in batches) == lengths.sum()
    seen = [int(row[0]) for batch in batches for row in batch["input_ids"]]
    assert seen == list(range(1, 71))
    for batch in batches:
        assert (batch["attention_mask"].sum(0) > 0).all(), "no column is padding alone"
        assert ((batch["input_ids"] > 0) == (batch["attention_mask"] == 1)).all()


def test_drawn_rows_are_as_long_as_sentences() -> None:
    lengths = np.array([len(text) for text in epoch_time.draw_texts(2000, 128)])
    assert np.median(lengths) == pytest.approx(epoch_time.MEDIAN_TOKENS, abs=1)
    assert lengths.min() >= epoch_time.FEWEST_TOKENS
    assert lengths.std() > 5
    assert max(map(len, epoch_time.draw_texts(2000, 30))) == 30


def test_without_the_unpruned_model_it_is_refused(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="does not start with 0"):
        epoch(monkeypatch, base, tmp_path / "epoch", "--removed", "0.2,0.4")
    assert list(tmp_path.iterdir()) == []
