"""Training, the chain and the runtime read a text the same way; what cannot be told exactly is refused in training."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from finegates_export import load, verify
from finegates_export.common.tasks import TASKS, task_of
from finegates_export.common.text_inputs import TextInputs
from finegates_export.common.tokenizer_files import copy_tokenizer_file
from finegates_export.errors import ChainError, InputError, MissingExtraError
from finegates_export.pipeline.source import find_source
from finegates_export.runtime.long_texts import LongTexts
from finegates_export.runtime.reading import TextReader, _parts
from finegates_export.sources.base import find_base
from finegates_export.sources.tokenizer import check_readable
from finegates_export.verification.client_files import check_clients
from finegates_export.verification.inputs import Batch
from finegates_export.verification.reading import check_inputs
from finegates_trainer.data.reading_check import check_embeddings, check_reading
from finegates_trainer.data.rows import Rows
from finegates_trainer.data.sample_texts import sample_texts
from finegates_trainer.data.tokenizing import Reading
from tests.export.conftest import bundle_info
from tests.tiers import tiered
from tests.tiny import LORA, MAX_LENGTH, labelled_texts, tiny_tokenizer
from tests.tiny_models import FAMILY_VARIANTS, IMAGE_VARIANTS

TEXTS_LINK = "texts, as delivered"
TEXTS = [text for text, _ in labelled_texts(12)]
NAMES = ("input_ids", "attention_mask", "token_type_ids")
READ_TASKS = [name for name, task in TASKS.items() if not task.images]
ENCODERS = [name for name in FAMILY_VARIANTS if name not in IMAGE_VARIANTS]
OTHERWISE = {"truncation_side": "left", "segments": False, "max_length": MAX_LENGTH - 3}
"""What a bundle may wrongly say of how its texts are read."""


def last_link(bundle):
    return bundle_info(bundle)["report"]["links"][-1]  # of a bundle without a quantized form


@pytest.mark.slow
@pytest.mark.parametrize("task", tiered(READ_TASKS, default=("question-answering", "text-generation")))
def test_texts_are_a_link_of_every_task(workshop, task):
    variant = "llama" if task == "text-generation" else "bert"
    generator = task == "text-generation" or None
    run = workshop.run("coupled", task=task, lora=LORA, variant=variant, layers=1, generator=generator)
    link = last_link(workshop.bundle(run))
    assert (link["name"], link["exact"]) == (TEXTS_LINK, True)
    assert link["relative"] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("variant", tiered(ENCODERS, default=("roberta", "deberta-v3", "qwen3")))
def test_texts_are_a_link_of_every_family(workshop, variant):
    assert last_link(workshop.bundle(workshop.run("coupled", variant=variant, layers=1)))["name"] == TEXTS_LINK


@pytest.mark.slow
@pytest.mark.parametrize("field", OTHERWISE)
def test_a_bundle_that_reads_otherwise_is_rejected(workshop, tmp_path, field):
    run = workshop.run("coupled", lora=LORA, layers=1)
    bundle = shutil.copytree(workshop.bundle(run), tmp_path / "bundle")
    assert verify(run, bundle)[-1].name == TEXTS_LINK
    info = bundle_info(bundle)
    info["text"][field] = OTHERWISE[field]
    (bundle / "bundle.json").write_text(json.dumps(info))
    with pytest.raises(ChainError, match=f"{TEXTS_LINK}: .* is read as .*, but training read"):
        verify(run, bundle)


def test_padding_on_the_other_side_is_rejected():
    rows = {"input_ids": np.array([[5, 6, 0], [5, 6, 7]]), "attention_mask": np.array([[1, 1, 0], [1, 1, 1]])}
    batch = Batch(rows, texts=("a film", "the film"))
    check_inputs("link", batch, {name: array.copy() for name, array in rows.items()})
    left = {name: np.stack([np.roll(array[0], 1), array[1]]) for name, array in rows.items()}
    with pytest.raises(ChainError, match="'a film' is read as input_ids 0 5 6, but training read 5 6 0"):
        check_inputs("link", batch, left)


def samples(tokenizer, task="classification", **columns):
    rows = Rows(columns.get("texts", TEXTS), columns.get("pairs"), [None] * len(TEXTS))
    return sample_texts(Reading(task_of(task), tokenizer, MAX_LENGTH, NAMES), rows)


def test_a_run_keeps_a_text_too_long_for_a_row_and_one_with_a_special_token():
    kept = samples(tiny_tokenizer(), pairs=TEXTS[::-1])
    assert any(len(one.ids) == MAX_LENGTH for one in kept)
    assert any("[SEP]" in one.given[0] for one in kept)
    assert {1} < {*kept[0].segments} | {1, 0}


@pytest.mark.parametrize("field", ["truncation_side", "segments", "max_length", "splits_special_tokens"])
def test_training_refuses_a_file_that_reads_otherwise(field):
    tokenizer = tiny_tokenizer()
    how = TextInputs(MAX_LENGTH)
    texts = samples(tokenizer, pairs=TEXTS[::-1])
    check_reading("base", tokenizer, task_of("classification"), NAMES, how, texts)
    other = replace(how, **{field: {**OTHERWISE, "splits_special_tokens": True}[field]})
    with pytest.raises(InputError, match=r"base: its .* and the tokenizer.json that it saves read .* as different"):
        check_reading("base", tokenizer, task_of("classification"), NAMES, other, texts)


def test_training_refuses_a_token_without_an_embedding():
    tokenizer = tiny_tokenizer()
    check_embeddings("base", tokenizer, len(tokenizer))
    with pytest.raises(InputError, match=f"with id {len(tokenizer) - 1}, but the model has {len(tokenizer) - 1} emb"):
        check_embeddings("base", tokenizer, len(tokenizer) - 1)


def test_a_tokenizer_without_a_file_names_the_package_that_reads_it(workshop, tmp_path, monkeypatch):
    base = shutil.copytree(workshop.base(layers=1), tmp_path / "base")
    (base / "tokenizer.json").rename(base / "spm.model")
    monkeypatch.setattr("finegates_export.sources.tokenizer.find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"sentencepiece model spm.model.*pip install sentencepiece"):
        find_base(str(base)).tokenizer()


@pytest.fixture(scope="module")
def byte_pairs():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer.to_str()


LONG = " ".join(f"the film {number} was {text}" for number in range(120) for text in TEXTS)
WITHOUT_SPACES = "film" * 40_000
SHORTER, OTHER = LONG[:3000], LONG[5000:9000]
LETTERS = "a b c " * 200
"""More tokens than a part of a long text has, and fewer than the text."""
PAIRS = [
    (LETTERS, LONG[:9000]),
    (LONG[:9000], LETTERS),
    (SHORTER, OTHER),
    (OTHER, SHORTER),
    (SHORTER, SHORTER),
    (LONG, "a film"),
    ("a film", LONG),
]
"""Two long texts are no longer than this: truncating a pair, tokenizers makes a record for every pair of parts."""


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("longest", [31, 32])
@pytest.mark.parametrize("vocabulary", ["words", "byte pairs"])
def test_a_long_text_is_read_as_if_it_were_read_whole(byte_pairs, side, longest, vocabulary):
    written = byte_pairs if vocabulary == "byte pairs" else tiny_tokenizer().backend_tokenizer.to_str()
    whole, own = Tokenizer.from_str(written), Tokenizer.from_str(written)
    whole.no_padding()
    whole.enable_truncation(longest, direction=side)
    reader = TextReader(own, NAMES, task_of("classification"), TextInputs(longest, side))
    for text in (LONG, WITHOUT_SPACES, f"{WITHOUT_SPACES} {LONG}", *PAIRS):
        expected = whole.encode(*text) if isinstance(text, tuple) else whole.encode(text)
        assert reader.rows([text])[0].tokens.ids == expected.ids


def test_most_of_a_long_text_is_never_tokenized():
    seen = []
    part = LongTexts(32, "right", lambda text: seen.append(len(text)) or len(text.split())).enough_of(LONG * 20)
    assert LONG.startswith(part) and max(seen) < 5000
    words = ["film"] * 10
    assert LongTexts(4, "right", lambda _word: 1).enough_of(words) == words[:8]


@pytest.mark.slow
def test_clients_find_in_the_files_how_to_read(workshop, tmp_path):
    """A base's own settings give way: texts that end elsewhere, and padding in front or to a fixed length."""
    base = shutil.copytree(workshop.base(layers=1), tmp_path / "base")
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(direction="left", length=20)
    tokenizer.save(str(base / "tokenizer.json"))
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**config, "padding_side": "left"}))
    run = tmp_path / "run"
    from tests.tiny import tiny_run

    bundle = workshop.bundle(tiny_run(run, base, "none", gates={}))
    client = AutoTokenizer.from_pretrained(bundle)
    assert (client.padding_side, client.truncation_side, client.model_max_length) == ("right", "right", MAX_LENGTH)
    alone = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    short, long = alone.encode_batch(["a film", LONG])
    assert len(long.ids) == len(short.ids) == MAX_LENGTH
    assert short.ids[-1] == 0 and short.ids[0] != 0


@pytest.mark.slow
def test_a_bundle_from_before_this_was_told_still_loads(workshop, tmp_path):
    bundle = shutil.copytree(workshop.bundle(workshop.run("coupled", lora=LORA, layers=1)), tmp_path / "bundle")
    before = load(bundle).logits(TEXTS)
    info = bundle_info(bundle)
    del info["text"]
    (bundle / "bundle.json").write_text(json.dumps(info))
    assert np.array_equal(load(bundle).logits(TEXTS), before)
    (bundle / "bundle.json").write_text(json.dumps({**info, "text": {"max_length": 0}}))
    with pytest.raises(InputError, match=r"text: max_length: must be greater than 1, got 0"):
        load(bundle)


def test_texts_are_tokenized_some_at_a_time_and_a_row_keeps_nothing_of_what_it_lost():
    texts = ["a" * 50_000, "b" * 90_000, "c" * 30_000, ("d" * 100_000, "e" * 60_000), "f"]
    parts = list(_parts(texts))
    assert [text for part in parts for text in part] == texts
    assert [len(part) for part in parts] == [1, 2, 1, 1]
    reader = TextReader(tiny_tokenizer().backend_tokenizer, NAMES, task_of("classification"), TextInputs(8))
    (row,) = reader.rows([LONG])
    assert len(row.tokens.ids) == 8
    assert not hasattr(row.tokens, "overflowing")


def test_pairs_have_their_segments_without_a_post_processor_too():
    content = json.loads(tiny_tokenizer().backend_tokenizer.to_str()) | {"post_processor": None}
    for segments in (True, False):
        own = Tokenizer.from_str(json.dumps(content))
        reader = TextReader(own, NAMES, task_of("classification"), TextInputs(8, segments=segments))
        feed = reader.feed(reader.rows([("a film", "the play")]), 5)
        assert feed["token_type_ids"].tolist() == [[0, 0, 1, 1, 0] if segments else [0] * 5]


CLASSIC = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}


@pytest.mark.parametrize("processor", [None, CLASSIC, {"type": "Sequence", "processors": [CLASSIC]}])
def test_a_pair_has_one_segment_in_the_file_where_training_gave_it_one(tmp_path, processor):
    content = json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    content["post_processor"] = processor or content["post_processor"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    pair = ("a film", "the play")
    for segments in (True, False):
        folder = tmp_path / str(segments)
        folder.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            copy_tokenizer_file(tmp_path / name, folder, TextInputs(9, segments=segments, pad_token_id=1))
        found = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(*pair)
        assert found.ids == Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(*pair).ids
        assert set(found.type_ids) == ({0, 1} if segments else {0})
        config = json.loads((folder / "tokenizer_config.json").read_text())
        assert ("token_type_ids" in config["model_input_names"]) == segments
        filler = config["pad_token"]
        assert filler == "[UNK]", "the token that training padded with, where the base names none"


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong",
    [
        {"padding_side": "left"},
        {"truncation_side": "left"},
        {"model_max_length": MAX_LENGTH - 3},
        {"pad_token": "[UNK]"},
        {"split_special_tokens": True},
    ],
)
def test_files_that_make_other_programs_read_otherwise_are_rejected(workshop, tmp_path, wrong):
    run = workshop.run("coupled", lora=LORA, layers=1)
    bundle = shutil.copytree(workshop.bundle(run), tmp_path / "bundle")
    batches, task = find_source(run).batches(), task_of("classification")
    check_clients(bundle, batches, task)
    config = json.loads((bundle / "tokenizer_config.json").read_text())
    (bundle / "tokenizer_config.json").write_text(json.dumps({**config, **wrong}))
    with pytest.raises(ChainError, match=r"as other programs read the bundle's tokenizer files: .* but training read"):
        check_clients(bundle, batches, task)


def test_another_packages_vocabulary_is_not_taken_for_sentencepieces(tmp_path, monkeypatch):
    monkeypatch.setattr("finegates_export.sources.tokenizer.find_spec", lambda _name: None)
    (tmp_path / "tiktoken.model").write_text("YQ== 0")
    check_readable("base", tmp_path)
    (tmp_path / "spm.model").write_text("")
    with pytest.raises(MissingExtraError, match=r"sentencepiece model spm\.model"):
        check_readable("base", tmp_path)
