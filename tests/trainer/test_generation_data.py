"""Text to generate: which tokens are read, which are learned, and which rows are refused by their file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from finegates_export.common.tasks import NO_LABEL
from finegates_export.errors import InputError
from finegates_trainer.data import DataSource, Rows, read_data
from finegates_trainer.data.examples import TextExamples
from finegates_trainer.data.tokenizing import make_examples
from tests.trainer.conftest import write_rows
from tests.trainer.decoders import CHAT, END, MARKED_CHAT, decoder_tokenizer

NAMES = ("input_ids", "attention_mask")
CONVERSATION = [
    {"role": "system", "content": "very fine"},
    {"role": "user", "content": "so was the film"},
    {"role": "assistant", "content": "great and lovely"},
    {"role": "user", "content": "and the song"},
    {"role": "assistant", "content": "sad"},
]


def source(path: Path, **more: Any) -> DataSource:
    return DataSource(str(path), eval_data=str(path), task="text-generation", **more)


def examples(rows: Rows, max_length: int = 64, chat: str | None = CHAT) -> TextExamples:
    found = make_examples("text-generation", decoder_tokenizer(chat), rows, rows.labels, max_length, NAMES)
    assert isinstance(found, TextExamples)
    return found


def told(found: TextExamples, row: int = 0) -> tuple[str, str]:
    """What is read, and what is learned of it."""
    tokenizer = decoder_tokenizer()
    labels = [label for label in found.labels[row] if label != NO_LABEL]
    return tokenizer.decode(found.inputs[row]["input_ids"]), tokenizer.decode(labels)


def test_documents_of_a_text_file_are_parted_by_two_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("\n\nthe film\n\nwas sad\n\n \na song\n\n\n\n\nodd\n\n\n", encoding="utf-8")
    (tmp_path / "dev.txt").write_text("a play", encoding="utf-8")
    data = read_data(DataSource(str(tmp_path), task="text-generation"))
    assert data.train.texts == ["the film\n\nwas sad", "a song", "odd"]
    assert data.train.places == [f"{path} line {line}" for line in (3, 8, 13)]
    assert data.evaluation.texts == ["a play"]


def test_without_a_dev_file_a_tenth_of_the_documents_is_held_out(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"text": f"a film {number}"} for number in range(200)])
    data = read_data(DataSource(str(path), task="text-generation"))
    assert 10 <= len(data.evaluation) <= 30
    assert not set(data.train.texts) & set(data.evaluation.texts)
    again = read_data(DataSource(str(path), task="text-generation"))
    assert again.evaluation.digest() == data.evaluation.digest() != data.train.digest()


@pytest.mark.parametrize("max_length", [2, 3, 4, 100])
def test_documents_fill_blocks_and_every_token_but_their_first_is_learned_once(max_length: int) -> None:
    texts = ["the film was sad", "a song", "odd"]
    found = examples(Rows(texts, None, [None] * 3), max_length)
    tokenizer = decoder_tokenizer()
    stream = tokenizer(f" {END} ".join([*texts, ""]))["input_ids"]
    assert [one for row in found.inputs for one in row["input_ids"]] == stream[:-1]
    assert {len(row["input_ids"]) for row in found.inputs[:-1]} <= {max_length}
    labels = [label for row in found.labels for label in row]
    firsts = [i for i, token in enumerate(stream[:-1]) if token == tokenizer.eos_token_id]
    assert labels == [NO_LABEL if i in firsts else stream[i + 1] for i in range(len(labels))]
    assert (found.dropped, found.cut) == (0, 0)


def test_of_a_prompt_and_its_completion_the_completion_is_learned(tmp_path: Path) -> None:
    rows = [{"prompt": "so was the film", "completion": "great and fine"}, {"prompt": "a", "completion": "sad"}]
    data = read_data(source(write_rows(tmp_path / "rows.jsonl", rows)))
    found = examples(data.train)
    assert told(found) == ("so was the film great and fine", f"great and fine {END}")
    inputs, labels = found.collate([0, 1])
    assert inputs["attention_mask"][1].tolist() == [1, 1, *[0] * 5]
    assert labels[1].tolist()[2:] == [NO_LABEL] * 5
    named = read_data(source(tmp_path / "rows.jsonl", text_column="completion", label_column="prompt"))
    assert told(examples(named.train)) == ("great and fine so was the film", f"so was the film {END}")


@pytest.mark.parametrize(
    "chat",
    [CHAT, MARKED_CHAT, MARKED_CHAT.replace("{% endgeneration %} ", " {% endgeneration %}")],
    ids=["prefixes", "marks", "marks that run on"],
)
def test_of_a_conversation_the_assistants_words_are_learned(tmp_path: Path, chat: str) -> None:
    pd.DataFrame({"messages": [CONVERSATION]}).to_parquet(tmp_path / "rows.parquet")
    write_rows(tmp_path / "rows.jsonl", [{"messages": CONVERSATION}])
    for suffix in ("jsonl", "parquet"):
        found = examples(read_data(source(tmp_path / f"rows.{suffix}")).train, chat=chat)
        read, learned = told(found)
        assert read.startswith(
            f"<system> very fine {END} <user> so was the film {END} <assistant> great and lovely {END}"
        )
        assert learned == f"great and lovely {END} sad {END}"


def test_rows_that_are_too_long_are_cut_and_counted_and_dropped_without_an_answer() -> None:
    rows = Rows(["the film", "a", "the song and the play was"], None, ["was great and very fine", "sad", "odd"], None)
    found = examples(rows, max_length=4)
    assert (len(found), found.cut, found.dropped) == (2, 2, 1)
    assert told(found) == ("the film was great", "was great and")
    with pytest.raises(InputError, match="in all 3 rows, what is to be learned lies beyond the first 1 tokens"):
        examples(Rows([f"{text} rather" for text in rows.texts], None, rows.labels), max_length=1)


def test_a_template_that_rewrites_what_was_said_is_refused_with_the_row() -> None:
    forgets = CHAT.replace("{{ message.content }}", "{{ message.content if loop.last else 'so' }}")
    rows = Rows([CONVERSATION[:3], CONVERSATION], None, [None, None], ["a.jsonl line 4", "a.jsonl line 9"])
    with pytest.raises(InputError, match=r"a.jsonl line [49]: .* rewrites earlier messages once message"):
        examples(rows, chat=forgets)
    strict = "{{ raise_exception('speak in turns') }}" + CHAT
    with pytest.raises(InputError, match=r"a.jsonl line 4: .*speak in turns"):
        examples(rows, chat=strict)
    with pytest.raises(InputError, match=r"lacks a chat template .* give prompt and completion"):
        examples(rows, chat=None)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"text": "a"}', "", '{"text": '], r"rows.jsonl line 3 is not JSON"),
        (['{"text": "a"}', "[1]"], r"rows.jsonl line 2 is '\[1\]', not an object"),
        (['{"text": "a"}', "", '{"text": 7}'], r"rows.jsonl line 3 has 7 in 'text'"),
        (['{"text": "a"}', '{"text": " "}'], r"rows.jsonl line 2 has an empty 'text'"),
        (['{"prompt": "a", "completion": "b"}', '{"prompt": "a"}'], r"rows.jsonl line 2 has nan in 'completion'"),
        (['{"messages": []}'], r"rows.jsonl line 1 has no message of the assistant"),
        (['{"messages": [{"role": "user", "content": "a"}]}'], r"rows.jsonl line 1 has no message of the assistant"),
        (['{"messages": [{"role": "assistant"}]}'], r"rows.jsonl line 1 has {'role': 'assistant'} in 'messages'"),
        (['{"text": "a"}', '{"text": [{"role": "assistant", "content": "a"}]}'], "mixes conversations with texts"),
        (['{"body": "a"}'], "no text to generate; it needs messages; prompt and completion; or text, but has body"),
    ],
)
def test_a_broken_row_is_named_by_its_file_and_line(tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_data(source(path))


def test_columns_that_text_generation_does_not_read_are_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"text": "a", "more": "b"}])
    with pytest.raises(InputError, match="pair-column: text-generation reads"):
        read_data(source(path, pair_column="more"))
    with pytest.raises(InputError, match="label-column: more has no prompt to complete"):
        read_data(source(path, label_column="more"))
    with pytest.raises(InputError, match="has no column 'body'; it has text, more"):
        read_data(source(path, text_column="body"))


def test_a_tokenizer_without_an_end_of_text_is_refused() -> None:
    tokenizer = decoder_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="lacks an end-of-text token"):
        make_examples("text-generation", tokenizer, Rows(["a"], None, [None]), [None], 8, NAMES)


def test_json_lines_keep_their_values(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        json.dumps({"text": "a\u2028b", "label": "2024-01-01"}, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    rows = read_data(DataSource(str(path), eval_data=str(path))).train
    assert (rows.texts, rows.labels) == (["a\u2028b"], ["2024-01-01"])
