"""Words and answers of a text stand where they are said to stand, whatever the tokenizer counts to a word."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from finegates_export import load
from finegates_export.common.tasks import task_of
from finegates_export.common.text_inputs import TextInputs
from finegates_export.runtime.decoding import Decoder
from finegates_export.runtime.reading import TextReader
from tests.tiny import MAX_LENGTH

TEXTS = ["the film was very nice", "the  film was very nice ", "  the film"]


def byte_level(**settings):
    """As RoBERTa and GPT-2 read texts: the space in front of a word is part of it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(**settings)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


def pieces(*before):
    """As SentencePiece reads texts, DeBERTa's among them: the space in front of a word is a letter of it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*before, pre_tokenizers.Metaspace()])
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=["<unk>"], unk_token="<unk>")  # noqa: S106  # not a password
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


TOKENIZERS = {
    "bytes": lambda: byte_level(add_prefix_space=False),
    "bytes, a space first": lambda: byte_level(add_prefix_space=True),
    "pieces": pieces,
    "pieces of words": lambda: pieces(pre_tokenizers.WhitespaceSplit()),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


@pytest.mark.parametrize("text", TEXTS)
def test_words_stand_in_the_text_without_the_spaces_around_them(tokenizer, text):
    rows = TextReader(tokenizer, ["input_ids"], task_of("token-classification"), TextInputs(64)).rows([text])
    outputs = {"logits": np.zeros((1, rows[0].length, 2), np.float32)}
    (words,) = Decoder(task_of("token-classification"), ("A", "B"), None).decode(outputs, rows)
    assert [word.text for word in words] == text.split()
    assert [text[word.start : word.end] for word in words] == text.split()
    assert [word.number for word in words] == [*range(len(words))]


@pytest.mark.parametrize("text", TEXTS)
def test_answers_do_too(tokenizer, text):
    rows = TextReader(tokenizer, ["input_ids"], task_of("question-answering"), TextInputs(64)).rows(
        [("what was nice", text)]
    )
    places = [place for place, own in zip(rows[0].tokens.offsets, rows[0].tokens.sequence_ids, strict=True) if own == 1]
    before = rows[0].length - len(places)
    end = next(number for number, (_, end) in enumerate(places) if text[:end].endswith("film"))
    start = next(number for number, (start, _) in enumerate(places) if text[start:].strip().startswith("film"))
    logits = np.full((2, 1, rows[0].length), -9.0)
    logits[0, 0, before + start] = logits[1, 0, before + end] = 9.0
    decoder = Decoder(task_of("question-answering"), (), None)
    ((_, answer),) = decoder.decode(dict(zip(("start_logits", "end_logits"), logits, strict=True)), rows)
    assert (answer.text, text[answer.start : answer.end]) == ("film", "film")


@pytest.mark.slow
def test_words_of_a_list_are_told_by_their_number_where_some_have_no_token_or_are_cut_off(workshop):
    predictor = load(workshop.bundle(workshop.run("coupled", task="token-classification", layers=1)), threads=1)
    few, many = predictor.predict([["the", "", "film", " "], ["film"] * (2 * MAX_LENGTH)])
    assert [(word.number, word.text) for word in few] == [(0, "the"), (2, "film")]
    assert [word.number for word in many] == [*range(MAX_LENGTH - 2)]
