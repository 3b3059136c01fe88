"""Cells, encodings and splits: what is read is text, a number or a list, and every label has a row in training."""

from __future__ import annotations

import codecs
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finegates_export.errors import InputError
from finegates_trainer.data import DataSource, Rows, label_names, limit_rows, read_data

ODD = {
    "an object": {"body": "a film"},
    "a list": ["a", "film"],
    "a boolean": True,
    "bytes": b"a film",
    "a date": datetime.datetime(2026, 1, 2),  # tables have such
    "infinity": float("inf"),
    "half a character": "a \ud83d film",
}
TASKS = {
    "classification": {"text": "a film", "label": "good"},
    "multi-label": {"text": "a film", "labels": ["good"]},
    "regression": {"text": "a film", "score": 0.5},
    "token-classification": {"tokens": ["a", "film"], "tags": ["O", "B"]},
    "question-answering": {"question": "so ?", "context": "a film", "answer": "film", "answer_start": 2},
    "embedding": {"sentence1": "a film", "sentence2": "a play", "score": 0.5},
    "text-generation": {"prompt": "a", "completion": "film"},
    "reranking": {"query": "so ?", "passage": "a film", "label": 1},
}
MEANT = {("multi-label", "labels"), ("token-classification", "tokens"), ("token-classification", "tags")}
"""Where a list is right."""


def read(path: Path, task: str = "classification") -> Rows:
    return read_data(DataSource(str(path), eval_data=str(path), task=task)).train


def write(folder: Path, rows: list[dict[str, Any]], suffix: str) -> Path:
    path = folder / f"rows{suffix}"
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        pd.DataFrame(rows).to_parquet(path)
    return path


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_a_cell_that_is_neither_text_nor_number_is_refused_by_its_place_in_every_column(
    tmp_path: Path, suffix: str, kind: str
) -> None:
    odd = ODD[kind]
    in_json = kind not in ("bytes", "a date")
    if not in_json and suffix != ".parquet":
        pytest.skip("JSON has no such value")
    tried = 0
    for task, right in TASKS.items():
        for column in right:
            if kind == "a list" and (task, column) in MEANT:
                continue
            if kind == "half a character" and suffix == ".parquet":
                continue
            wrong = {**right, column: odd}
            rows = [wrong] if suffix == ".parquet" else [right, wrong]  # a column of Parquet has one type
            line = {".jsonl": "line 2", ".json": "row 2", ".parquet": "row 1"}[suffix]
            with pytest.raises(InputError, match=rf"rows\{suffix} {line}.*{column}|{line} has the start") as told:
                read(write(tmp_path, rows, suffix), task)
            assert "\n" not in str(told.value)
            tried += 1
        assert len(read(write(tmp_path, [right], suffix), task)) == 1
    assert tried >= 15 or (kind, suffix) == ("half a character", ".parquet")


@pytest.mark.parametrize("label", ["['good', 'odd']", '["good"]', "('good', 'odd')", "[1]"])
def test_a_list_spelled_as_text_is_no_class(tmp_path: Path, label: str) -> None:
    path = tmp_path / "rows.csv"
    pd.DataFrame({"text": ["a", "b"], "label": ["good", label]}).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"rows\.csv line 3 has the list .* --task multi-label"):
        read(path)


def test_numbers_are_texts_and_labels_of_every_kind(tmp_path: Path) -> None:
    columns = {"text": [Decimal("1.50"), Decimal(2)], "label": np.array([1, 0], np.uint8)}
    pd.DataFrame(columns).to_parquet(tmp_path / "rows.parquet")
    rows = read(tmp_path / "rows.parquet")
    assert (rows.texts, label_names(rows)) == (["1.50", "2.00"], ("0", "1"))
    pd.DataFrame({"text": ["a", "b"], "label": pd.Categorical(["x", "y"])}).to_parquet(tmp_path / "rows.parquet")
    assert label_names(read(tmp_path / "rows.parquet")) == ("x", "y")


WRITTEN: dict[str, Callable[[], str]] = {
    ".csv": lambda: 'text,label\r\n"naïve, so",1\r\nfilm,0\r\n',
    ".tsv": lambda: "text\tlabel\nnaïve, so\t1\nfilm\t0\n",
    ".jsonl": lambda: '{"text": "naïve, so", "label": 1}\r\n{"text": "film", "label": 0}\r\n',
    ".json": lambda: '[{"text": "naïve, so", "label": 1}, {"text": "film", "label": 0}]',
    ".txt": lambda: "naïve, so\r\n\r\n\r\nfilm\r\n",
}


@pytest.mark.parametrize("suffix", WRITTEN)
def test_marks_and_encodings_change_no_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    task = "text-generation" if suffix == ".txt" else "classification"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        path.write_bytes(WRITTEN[suffix]().encode(encoding))
        assert read(path, task).texts == ["naïve, so", "film"]
    path.write_bytes(codecs.BOM_UTF16_BE + WRITTEN[suffix]().encode("utf-16-be"))
    assert read(path, task).texts == ["naïve, so", "film"]
    for encoding, told in (("latin-1", r"line \d is not UTF-8 \(byte 0xef\); save"), ("utf-16-le", "zero byte, so")):
        path.write_bytes(WRITTEN[suffix]().replace("ï", "ï" if encoding == "latin-1" else "i").encode(encoding))
        with pytest.raises(InputError, match=told):
            read(path, task)


@pytest.mark.parametrize(
    ("name", "written", "message"),
    [
        ("rows.csv", 'text,label\n"a\nb",1\n,0\n', "line 4 has no text in column 'text'"),
        ("rows.csv", "text,label\na,1\n  ,0\n", "line 3 has no text in column 'text'"),
        ("rows.csv", 'text,label\na,1\n"b,0\n', "line 3 cannot be read: .* close quotes"),
        ("rows.csv", 'text,label\n"a" b,1\n', "line 2 cannot be read: "),
        ("rows.csv", "text,label,text\na,1,b\n", "two columns 'text'"),
        ("rows.csv", "", "names no columns"),
        ("rows.jsonl", '{"text": "a", "text": "b", "label": 1}\n', "line 1 is not JSON .*'text' is there twice"),
        ("rows.jsonl", '{"text": ' + "[" * 100_000 + "\n", "line 1 is not JSON .*nested too deeply"),
        ("rows.jsonl", '{"text": "a", "label": Infinity}\n', "line 1 has inf, which is not finite"),
        ("rows.json", '{"text": "a"}\n{"text": "b"}\n', r"name it \.jsonl"),
        ("rows.json", '{"text": ["a", "b"], "label": [1]}', r"several lengths \(text 2, label 1\)"),
        ("rows.json", '{"data": [], "version": "1"}', "'version' is '1', not a column"),
        ("rows.json", '[{"text": "a", "label": 1}, 7]', "row 2 is 7, not an object"),
        (
            "rows.jsonl",
            '{"text": "a", "label": 1}\n\ufeff{"text": "b", "label": 0}\n',
            "line 2 begins with a byte",
        ),
        ("rows.csv", "text,label\na,1\n\ufefftext,label\nb,0\n", "line 3 begins with a byte order mark"),
        ("rows.jsonl", "", "holds no rows"),
        ("rows.json", "[]", "holds no rows"),
        ("rows.json", "7", "neither rows nor columns"),
        ("rows.parquet", "no table", r"rows\.parquet cannot be read"),
    ],
)
def test_a_damaged_file_is_told_with_its_line(tmp_path: Path, name: str, written: str, message: str) -> None:
    (tmp_path / name).write_text(written)
    with pytest.raises(InputError, match=message) as told:
        read(tmp_path / name)
    assert "\n" not in str(told.value)


def test_columns_and_row_numbers_as_pandas_writes_them(tmp_path: Path) -> None:
    table = pd.DataFrame({"text": ["a" * 200_000, "b"], "label": [1, 0]})
    table.to_json(tmp_path / "rows.json")
    table.to_csv(tmp_path / "rows.CSV")
    for name in ("rows.json", "rows.CSV"):
        assert read(tmp_path / name).texts == table["text"].tolist()


def test_messages_that_say_more_than_is_learned_are_refused(tmp_path: Path) -> None:
    said = {"role": "assistant", "content": "great", "name": None}
    path = write(tmp_path, [{"messages": [said]}], ".jsonl")
    assert read(path, "text-generation").texts == [[{"role": "assistant", "content": "great"}]]
    write(tmp_path, [{"messages": [{**said, "tool_calls": [{"id": 1}]}]}], ".jsonl")
    with pytest.raises(InputError, match=r"rows\.jsonl line 1 has a message with tool_calls in 'messages'"):
        read(path, "text-generation")


def test_labels_have_one_order_in_every_process() -> None:
    names = ["nan", "10", "2", "inf", "-1", "NaN", "1e400", "0.5", "word"]
    code = (
        "from finegates_trainer.data import Rows, label_names\n"
        f"print(','.join(label_names(Rows([''] * 9, None, {names}))))"
    )
    orders = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)}, capture_output=True, text=True, check=True,
        ).stdout.strip()
        for seed in range(3)
    }  # fmt: skip
    assert orders == {"-1,0.5,2,10,1e400,NaN,inf,nan,word"}
    assert label_names(Rows(["a"] * 2, None, ["a", "a"]), ("a", "a")) == ("a",), "a base that names two outputs alike"


def test_labels_that_look_the_same_are_refused() -> None:
    with pytest.raises(InputError, match=r"look the same, .*'e.u0301' and '.xe9'"):
        label_names(Rows(["a"] * 2, None, ["e\u0301", "\u00e9"]))


def test_numbers_beyond_floats_are_names_but_no_scores(tmp_path: Path) -> None:
    path = write(tmp_path, [{"text": "a", "label": 10**400}, {"text": "b", "label": 3}], ".jsonl")
    assert label_names(read(path)) == ("3", str(10**400))
    with pytest.raises(InputError, match=r"rows\.jsonl line 1 has the score"):
        read(path, "regression")


def _labelled(task: str, count: int, labels: int) -> list[Any]:
    names = [f"intent {i % labels:02d}" for i in range(count)]
    lists = {"multi-label": lambda name: ["all", name], "token-classification": lambda name: ["O", name]}
    return [lists.get(task, str)(name) for name in names]


@pytest.mark.parametrize("task", ["classification", "multi-label", "token-classification"])
@pytest.mark.parametrize("each", [1, 2, 3])
def test_the_split_takes_no_label_from_training(task: str, each: int) -> None:
    labels = [*_labelled(task, 100 * each, 100), *_labelled(task, 60, 2)]
    texts = [f"the film {i}" for i in range(len(labels))]
    rows = Rows([[text, "so"] for text in texts] if task == "token-classification" else texts, None, labels)
    train, evaluation = rows.held_out(named_labels=True)
    assert len(evaluation) > 0
    assert len(train) + len(evaluation) == len(rows)
    assert set().union(*train.row_labels()) == set().union(*rows.row_labels())
    plain = rows.held_out()[1]
    assert [text for text in evaluation.texts if text not in plain.texts] == [], "rows only go back"
    assert set().union(*rows.held_out()[0].row_labels()) != set().union(*rows.row_labels()) or each > 1
    backwards = rows.take([*range(len(rows))][::-1]).held_out(named_labels=True)[1]
    assert sorted(map(str, backwards.texts)) == sorted(map(str, evaluation.texts))


def test_rows_with_the_same_text_stay_together_and_too_few_rows_are_refused(tmp_path: Path) -> None:
    texts = [f"the film {i // 2}" for i in range(160)]
    train, evaluation = Rows(texts, None, _labelled("classification", 160, 80)).held_out(named_labels=True)
    assert not set(train.texts) & set(evaluation.texts)
    path = write(tmp_path, [{"text": f"film {i}", "label": f"name {i}"} for i in range(50)], ".jsonl")
    with pytest.raises(InputError, match=r"of 50 rows none could be held out .* a label that no other has"):
        read_data(DataSource(str(path)))


def test_a_sample_of_rows_keeps_every_label_or_is_refused() -> None:
    rows = Rows([str(i) for i in range(200)], None, ["often"] * 190 + _labelled("classification", 10, 10))
    kept = limit_rows(rows, 20, 0, named_labels=True)
    assert (len(kept), len(label_names(kept))) == (20, 11)
    assert len(label_names(limit_rows(rows, 20, 0))) < 11, "by chance alone"
    with pytest.raises(InputError, match=r"max-train-rows: 10 rows cannot hold all 11 labels .* at least 11"):
        limit_rows(rows, 10, 0, named_labels=True)
