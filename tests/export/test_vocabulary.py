"""A vocabulary cut to a text: the text is read as before, any other still is, and what stays has its logits."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from finegates_export import ExportOptions, GenerationOptions, export, load, verify
from finegates_export.errors import ChainError, InputError, RunFolderError, UnsupportedError
from finegates_export.pruning.vocabulary.cut import VocabularyCut, cut_again, cut_to_text
from finegates_export.pruning.vocabulary.needed import cut_content, needed_tokens
from finegates_export.verification.cached_forms import cached_onnx_form
from finegates_export.verification.prompts import left_padded
from tests.export.conftest import bundle_info
from tests.tiers import tiered
from tests.tiny import tiny_run
from tests.trainer.decoders import END, byte_pair_tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
PAGES = [page.read_text(encoding="utf-8") for page in sorted((Path(__file__).parents[2] / "docs").glob("*.md"))]
LETTERS = "abab abcabc abba bab cab acab abc"


def byte_pairs(texts, size):
    """A tokenizer as large decoders have them: bytes, merges, a template with special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    return tokenizer


def again(content):
    return Tokenizer.from_str(json.dumps(content))


@pytest.fixture(scope="module")
def whole():
    return byte_pairs(PAGES, 1500)


@pytest.mark.parametrize("page", range(0, len(PAGES), 3))
def test_the_text_is_read_as_before_and_any_other_one_still_is(whole, page):
    content = json.loads(whole.to_str())
    kept = needed_tokens(content, whole.encode(PAGES[page]).ids)
    cut = again(cut_content(content, kept))
    assert cut.get_vocab_size() == len(kept) < whole.get_vocab_size()
    assert cut.encode(PAGES[page]).tokens == whole.encode(PAGES[page]).tokens
    assert [kept[number] for number in cut.encode(PAGES[page]).ids] == whole.encode(PAGES[page]).ids
    for other in (PAGES[page - 1], "Ünïcode, 漢字 and\ttabs"):
        assert cut.decode(cut.encode(other).ids) == other
    assert len(cut.encode(PAGES[page - 1]).ids) > len(whole.encode(PAGES[page - 1]).ids)


def test_without_the_parts_of_its_tokens_a_text_would_be_read_otherwise(whole):
    content, text = json.loads(whole.to_str()), PAGES[0]
    used = set(whole.encode(text).ids)
    made = {left + right for left, right in content["model"]["merges"]}
    alone = [number for token, number in content["model"]["vocab"].items() if number in used or token not in made]
    assert again(cut_content(content, sorted(alone))).encode(text).tokens != whole.encode(text).tokens


def test_merges_of_older_files_are_read_too(whole):
    content = json.loads(whole.to_str())
    ids = whole.encode(PAGES[0]).ids
    kept = needed_tokens(content, ids)
    content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]
    assert needed_tokens(content, ids) == kept
    assert again(cut_content(content, kept)).encode(PAGES[0]).tokens == whole.encode(PAGES[0]).tokens


@pytest.fixture(scope="module", params=tiered([True, False], default=(True,)), ids=["tied", "untied"])
def run(request, workshop, tmp_path_factory):
    place = tmp_path_factory.mktemp("vocabulary")
    source = workshop.base(variant="llama", generator=True, tie_word_embeddings=request.param)
    base = shutil.copytree(source, place / "base")
    byte_pair_tokenizer([LETTERS, "zebra quay juggle"]).save_pretrained(base)
    return tiny_run(place / "run", base, "coupled", task="text-generation")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "task.txt"
    path.write_text(LETTERS, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def bundles(run, text):
    made = run.parent / "whole", run.parent / "cut"
    for folder, words in zip(made, (None, text), strict=True):
        export(ExportOptions(ckpt=run, out=folder, vocabulary_of=words, threads=1))
    return made


def test_the_logits_of_what_stays_are_those_of_the_whole_model(run, text, bundles):
    whole, short = (cached_onnx_form(folder / "model.onnx", threads=1) for folder in bundles)
    cut = cut_to_text(text, run, 64, [{"eos_token_id": 3}])
    ids = [np.arange(1, cut.size), np.arange(5)]
    expected = whole(left_padded([cut.kept[row] for row in ids]))["logits"][..., cut.kept]
    found = short(left_padded(ids))["logits"]
    attended = left_padded(ids)["attention_mask"].astype(bool)
    assert found.shape[-1] == cut.size < 64
    assert np.abs(found - expected)[attended].max() < 1e-5 * np.abs(expected).max()
    assert np.abs(found - np.roll(expected, 1, -1))[attended].max() > 1e-2 * np.abs(expected).max()


def test_every_file_of_the_bundle_speaks_of_the_new_ids(bundles):
    whole, short = map(bundle_info, bundles)
    size = short["vocabulary"]
    assert short["report"]["vocabulary"] == [64, size]
    assert whole["report"]["vocabulary"] is None
    tokenizer = Tokenizer.from_file(str(bundles[1] / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == size
    for name in ("config.json", "generation_config.json"):
        values = json.loads((bundles[1] / name).read_text(encoding="utf-8"))
        assert values["eos_token_id"] == tokenizer.token_to_id(END)
        assert values.get("vocab_size", size) == size
    assert json.loads((bundles[1] / "genai_config.json").read_text(encoding="utf-8"))["model"]["vocab_size"] == size
    assert "| tokens | 64 |" in (bundles[1] / "README.md").read_text(encoding="utf-8")
    before, after = ((folder / "model.onnx").stat().st_size for folder in bundles)
    assert after < before


def test_text_of_the_task_goes_in_and_text_comes_out(bundles):
    (answer,) = load(bundles[1], threads=1).generate([LETTERS], GenerationOptions(max_new_tokens=8))
    assert answer.new_tokens > 0


def test_the_cut_is_known_again_from_the_tokens_of_the_bundle(run, text, bundles):
    size = bundle_info(bundles[1])["vocabulary"]
    made = cut_to_text(text, run, 64, [{"eos_token_id": 3}])
    found = cut_again(run, bundles[1], 64, size)
    np.testing.assert_array_equal(found.kept, made.kept)
    assert found.before == made.before
    # The bundle's own says beside it how texts are read: segments, length and padding.
    differ = {name for name in {**found.content, **made.content} if found.content.get(name) != made.content.get(name)}
    assert differ <= {"post_processor", "truncation", "padding"}
    for whole, short, count in ((run, bundles[1], size + 1), (bundles[1], run, 64)):
        with pytest.raises(InputError, match=r"vocabulary-of: .* does not say which of its tokens are the \d+ of"):
            cut_again(whole, short, 64, count)


def test_a_bundle_is_verified_token_by_token_and_its_graph_alone_is_refused(run, bundles, monkeypatch):
    link, *_ = verify(run, bundles[1], threads=1)
    assert link.relative < 1e-5
    assert link.greedy == 1
    with pytest.raises(
        InputError, match=r"has logits of \d+ tokens, not 64, .* the whole bundle where it was made with"
    ):
        verify(run, bundles[1] / "model.onnx", threads=1)
    made = cut_again(run, bundles[1], 64, bundle_info(bundles[1])["vocabulary"])
    shifted = replace(made, kept=np.roll(made.kept, 1))
    monkeypatch.setattr("finegates_export.pruning.vocabulary.cut.cut_again", lambda *_given: shifted)
    with pytest.raises((ChainError, RunFolderError), match=r"differs from the gated model|which the model"):
        verify(run, bundles[1], threads=1)


def test_rows_of_the_run_that_need_what_is_gone_are_left_out_of_the_chain(run, text):
    import torch

    cut = cut_to_text(text, run, 64, [])
    gone = next(number for number in range(64) if number not in cut.kept)
    ids = torch.tensor([[0, int(cut.kept[5]), int(cut.kept[7])], [1, gone, 2]])
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    found = cut.samples({"input_ids": ids, "attention_mask": mask, "labels": ids})
    assert found is not None
    assert found["input_ids"][:, 1:].tolist() == [[5, 7]]
    assert cut.samples({"input_ids": ids[1:], "attention_mask": mask[1:]}) is None


def test_settings_of_all_kinds_are_numbered_anew():
    cut = VocabularyCut(np.array([0, 3, 8, 9]), 10, {})
    told = {
        "eos_token_id": [3, 9], "pad_token_id": 0, "bos_token_id": None, "suppress_tokens": [8, 5], "top_k": 3,
        "bad_words_ids": [[8, 3], [9, 5], [9]],
    }  # fmt: skip
    assert cut.settings(told) == {
        "eos_token_id": [1, 3], "pad_token_id": 0, "bos_token_id": None, "suppress_tokens": [2], "top_k": 3,
        "bad_words_ids": [[2, 1], [3]],
    }  # fmt: skip


def test_a_setting_that_names_no_token_takes_none_along(run, text):
    """Llama's first configs say -1 where no token is padding: were it kept, every id would be one too high."""
    named, unnamed = (cut_to_text(text, run, 64, [{"eos_token_id": 3, **more}]) for more in ({"pad_token_id": -1}, {}))
    np.testing.assert_array_equal(named.kept, unnamed.kept)
    assert named.settings({"pad_token_id": -1}) == {"pad_token_id": -1}


@pytest.mark.parametrize("content", ["abab", "ab\u2028ab", "ab\u0085ab"])
def test_strings_of_json_lines_are_the_text(run, tmp_path, content):
    path = tmp_path / "chats.jsonl"
    rows = [{"messages": [{"role": "a", "content": content}, {"role": "b", "content": "cab"}], "turn": 1}]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    assert 4 < cut_to_text(path, run, 64, []).size < 64


def test_what_a_chat_template_writes_between_the_words_is_read_as_before(tmp_path):
    """Templates spell line breaks as escapes; Llama 3 has a token for the two behind every role."""
    whole = byte_pairs(["[SEP]", "\n\n", "\n\n"], 264)
    (tmp_path / "tokenizer.json").write_text(whole.to_str(), encoding="utf-8")
    (tmp_path / "task.txt").write_text("ab", encoding="utf-8")
    (tmp_path / "chat_template.jinja").write_text(r"{{ '[SEP]\n\n[SEP]' }}", encoding="utf-8")
    written = "[SEP]\n\n[SEP]"
    expected = whole.encode(written)
    assert "ĊĊ" in expected.tokens
    cut = cut_to_text(tmp_path / "task.txt", tmp_path, whole.get_vocab_size(), [])
    assert again(cut.content).encode(written).tokens == expected.tokens


@pytest.mark.parametrize(
    ("content", "told"),
    [("", "holds no text"), (b"\xff\xfe\x00", "cannot be read"), (None, "does not exist")],
)
def test_a_text_that_is_none_is_refused(run, tmp_path, content, told):
    path = tmp_path / "task.txt"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=f"vocabulary-of: .*{told}"):
        export(ExportOptions(ckpt=run, out=tmp_path / "out", vocabulary_of=path, threads=1))
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_more_tokens_than_the_model_has_is_refused(run, text):
    with pytest.raises(InputError, match=r"has a token \d+, but the model has 8"):
        cut_to_text(text, run, 8, [])


def test_what_no_cut_is_for_is_refused(workshop, run, text, tmp_path):
    words = workshop.run("coupled", task="text-generation", variant="llama", generator=True)
    with pytest.raises(UnsupportedError, match="of the type WordPiece, and only a vocabulary of byte pairs"):
        export(ExportOptions(ckpt=words, out=tmp_path / "out", vocabulary_of=text, threads=1))
    with pytest.raises(UnsupportedError, match="applies to text-generation"):
        export(ExportOptions(ckpt=workshop.run("coupled"), out=tmp_path / "out", vocabulary_of=text, threads=1))
    with pytest.raises(ValueError, match="vocabulary-of: applies to a bundle"):
        ExportOptions(ckpt=run, out=tmp_path / "out.onnx", vocabulary_of=text)
    with pytest.raises(ValueError, match="keeps its own; omit --torch"):
        ExportOptions(ckpt=run, out=tmp_path / "out", vocabulary_of=text, torch=True)


def test_ids_keep_their_order(whole):
    kept = needed_tokens(json.loads(whole.to_str()), [700, 5])
    assert all(one < other for one, other in pairwise(kept))
