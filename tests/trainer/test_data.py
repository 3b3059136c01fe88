"""Rows are read from every format alike, and what cannot be read says what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from finegates_export.errors import InputError
from finegates_trainer.data import DataSource, Rows, encode_labels, label_names, limit_rows, read_data

QUOTED = [('He said "no', "bad"), ("NA", "good"), ("None of it", "bad"), ("fine, really", "good")]


def _write(path: Path, rows: list[tuple[str, str]]) -> Path:
    table = pd.DataFrame(rows, columns=["sentence", "label"])
    if path.suffix == ".tsv":
        path.write_text("sentence\tlabel\n" + "".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_rows_and_quotes_are_data(tmp_path: Path, suffix: str) -> None:
    train = _write(tmp_path / f"train{suffix}", QUOTED)
    dev = _write(tmp_path / f"dev{suffix}", QUOTED[:2])
    for source in (DataSource(str(tmp_path)), DataSource(str(train), eval_data=str(dev))):
        data = read_data(source)
        assert data.train.texts == [text for text, _ in QUOTED]
        assert data.train.labels == [label for _, label in QUOTED]
        assert len(data.evaluation) == 2


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        ("sentence\nso\n", r"test\.csv has no column label"),
        ("sentence,label\nso,\n", r"test\.csv line 2 has no label"),
    ],
)
def test_a_folders_unlabelled_rows_are_refused_by_their_file_and_not_read_beside_evaluation_data(
    tmp_path: Path, held_out: str, message: str
) -> None:
    _write(tmp_path / "train.csv", QUOTED)
    (tmp_path / "test.csv").write_text(held_out, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_data(DataSource(str(tmp_path)))
    labelled = _write(tmp_path / "mine.csv", QUOTED[:2])
    data = read_data(DataSource(str(tmp_path), eval_data=str(labelled)))
    assert (len(data.train), len(data.evaluation)) == (4, 2)


def test_without_evaluation_rows_a_tenth_is_held_out_by_the_text_alone(tmp_path: Path) -> None:
    rows = [(f"sentence number {i}", str(i % 2)) for i in range(400)]
    first = read_data(DataSource(str(_write(tmp_path / "a.tsv", rows))))
    again = read_data(DataSource(str(_write(tmp_path / "b.tsv", rows[::-1]))))
    assert set(first.evaluation.texts) == set(again.evaluation.texts)
    assert not set(first.train.texts) & set(first.evaluation.texts)
    assert 20 <= len(first.evaluation) <= 60
    assert len(first.train) + len(first.evaluation) == 400


def test_pairs_and_floats_are_found_by_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    rows = [{"sentence1": f"a {i}", "sentence2": f"b {i}", "score": i / 2} for i in range(40)]
    pd.DataFrame(rows).to_csv(path, index=False)
    data = read_data(DataSource(str(path), task="regression"))
    assert data.train.pairs is not None
    assert data.train.pairs[0].startswith("b ")
    assert all(isinstance(score, float) for score in encode_labels(data.train, "regression", (), "training"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (DataSource("{file}", label_column="stars"), "no column 'stars'.*sentence, label.*--label-column"),
        (DataSource("{file}", text_column="body"), "no column 'body'"),
        (DataSource("{file}", pair_column="second"), "no column 'second'"),
        (DataSource("{folder}/missing.tsv"), "does not exist"),
        (DataSource("{folder}/empty"), "no train file"),
        (DataSource("{folder}/rows.xlsx"), "not supported"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, source: DataSource, message: str) -> None:
    file = _write(tmp_path / "rows.tsv", QUOTED)
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.xlsx").write_bytes(b"x")
    place = source.data.format(file=file, folder=tmp_path)
    with pytest.raises(InputError, match=message):
        read_data(DataSource(place, None, source.text_column, source.pair_column, source.label_column))


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize(
    ("name", "last"), [("rows.csv", "lovely thing,"), ("rows.tsv", "lovely thing\t "), ("rows.tsv", "lovely thing")]
)
def test_a_row_without_a_label_is_named_and_makes_no_class(tmp_path: Path, name: str, last: str, task: str) -> None:
    lines = ["sentence,label", "a film,1", "a play,0", "a song,1"]
    separator = "\t" if name.endswith(".tsv") else ","
    path = tmp_path / name
    path.write_text("\n".join([line.replace(",", separator) for line in lines] + [last]) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"{name} line 5 has no label in column 'label' \(1 of 4 rows have none\)"):
        read_data(DataSource(str(path), eval_data=str(path), task=task))


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
@pytest.mark.parametrize("header", ["sentence,label", "sentence,label,index", "index,sentence,label"])
@pytest.mark.parametrize(("behind", "last"), [(",", ","), (", ,", ","), (",", ""), ("", "")])
def test_separators_behind_the_last_value_shift_no_columns(
    tmp_path: Path, name: str, header: str, behind: str, last: str
) -> None:
    values = {"sentence": "007", "label": "1", "index": "web"}
    row = ",".join(values[column] for column in header.split(","))
    written = "\n".join([header, row + behind, "", row + behind, row + last, ""])
    path = tmp_path / name
    path.write_text(written.replace(",", "\t" if name.endswith(".tsv") else ","), encoding="utf-8")
    rows = read_data(DataSource(str(path), eval_data=str(path))).train
    assert (rows.texts, rows.labels) == (["007"] * 3, ["1"] * 3)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["sentence,label", "a film,1,", "fine, really,0"], r"line 3 has more values than the header's 2 names"),
        (
            ["sentence,label", "fine, really,0"],
            r"line 2 has more values .*\(sentence, label\); name every column, or quote",
        ),
        (["sentence,label", "a, film,so,0", "a play,1"], "line 2 has more values"),
        (["sentence,label", "a film,1", "fine, really,0"], "line 3 has more values"),
    ],
)
def test_values_that_no_column_names_are_not_dropped(tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"rows\.csv {message}"):
        read_data(DataSource(str(path)))


@pytest.mark.parametrize(
    ("task", "labels", "read"),
    [
        ("classification", [1, 0, 1], ["good", "bad", "good"]),
        ("classification", [1, 0, -1], "row 3 has no label"),
        ("classification", [1, None, 0], "row 2 has no label"),
        ("multi-label", [[1, 0], [], [0]], [["good", "bad"], [], ["bad"]]),
        ("multi-label", [[1], [0, -1], []], "row 2 has None among the values"),
        ("multi-label", [[1], None, []], "row 2 has no label"),
    ],
)
def test_class_indices_of_a_named_data_set_become_names(
    monkeypatch: pytest.MonkeyPatch, task: str, labels: list[Any], read: list[Any] | str
) -> None:
    named = datasets.ClassLabel(names=["bad", "good"])
    kind = datasets.List(named) if task == "multi-label" else named
    features = datasets.Features({"sentence": datasets.Value("string"), "label": kind})
    split = datasets.Dataset.from_dict({"sentence": ["a film", "a play", "a song"], "label": labels}, features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: {"train": split, "validation": split})
    source = DataSource("films/reviews", task=task)
    if isinstance(read, str):
        with pytest.raises(InputError, match=f"films/reviews {read}"):
            read_data(source)
    else:
        assert list(read_data(source).train.labels) == read


def test_labels_keep_their_names_and_a_natural_order() -> None:
    assert label_names(Rows(["a"] * 4, None, ["10", "9", "2", "10"])) == ("2", "9", "10")
    assert label_names(Rows(["a"] * 2, None, [1.0, 0.0])) == ("0", "1")
    assert label_names(Rows(["a"] * 2, None, ["good", "bad"])) == ("bad", "good")
    assert label_names(Rows(["a"] * 2, None, ["good", "bad"]), ("good", "bad")) == ("good", "bad")


def test_labels_that_training_has_not_seen_are_refused() -> None:
    with pytest.raises(InputError, match=r"that training lacks: \['ugly'\]"):
        encode_labels(Rows(["x"], None, ["ugly"]), "classification", ("bad", "good"), "evaluation")


@pytest.mark.parametrize("score", ["tall", None, float("nan"), float("inf")])
def test_scores_must_be_finite_numbers(score: object) -> None:
    with pytest.raises(InputError, match="row 1"):
        encode_labels(Rows(["x"], None, [score]), "regression", (), "training")


def test_limiting_rows_depends_on_the_seed_alone() -> None:
    rows = Rows([str(i) for i in range(100)], None, list(range(100)))
    assert limit_rows(rows, 10, 1).texts == limit_rows(rows, 10, 1).texts
    assert limit_rows(rows, 10, 1).texts != limit_rows(rows, 10, 2).texts
    assert len(limit_rows(rows, 1000, 1)) == 100
