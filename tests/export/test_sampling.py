"""Tokens are drawn as a plain reading of the words says; text comes in whole characters."""

from __future__ import annotations

import numpy as np
import pytest

from finegates_export.runtime import GenerationOptions
from finegates_export.runtime.sampling import choose, distribution
from finegates_export.runtime.writing import UNFINISHED, TextWriter
from tests.tiers import tiered
from tests.tiny_generator import byte_tokenizer


def plain(logits, temperature, top_k, top_p):
    """Temperature, then the k likeliest, then the fewest of them that hold the mass."""
    weights = [float(np.exp((float(value) - float(max(logits))) / temperature)) for value in logits]
    order = sorted(range(len(weights)), key=lambda token: (-weights[token], token))[: top_k or len(weights)]
    total, kept, reached = sum(weights[token] for token in order), [], 0.0
    for token in order:
        kept.append(token)
        reached += weights[token] / total
        if reached >= top_p and top_p < 1:
            break
    held = sum(weights[token] for token in kept)
    return kept, [weights[token] / held for token in kept]


@pytest.mark.parametrize("size", [7, 3000])
@pytest.mark.parametrize("temperature", [1e-310, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [None, 1, 5, 700, 5000])
@pytest.mark.parametrize("top_p", tiered([0.05, 0.6, 0.999, 1.0], fast=(0.6,), default=4))
def test_the_distribution_is_the_plain_one(size, temperature, top_k, top_p):
    logits = np.random.default_rng(size).normal(size=size).astype(np.float32) * 2
    logits[::3] = logits[0]  # equals
    options = GenerationOptions(temperature=temperature, top_k=top_k, top_p=top_p)
    tokens, probabilities = distribution(logits, options)
    expected_tokens, expected = plain(logits, temperature, top_k, top_p)
    assert tokens.tolist() == expected_tokens
    np.testing.assert_allclose(probabilities, expected, rtol=1e-9)


@pytest.mark.parametrize(("top_p", "kept"), [(0.49, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.76, 3), (0.9, 4)])
def test_top_p_keeps_the_token_that_crosses_the_mass(top_p, kept):
    logits = np.log2([0.5, 0.25, 0.125, 0.125]) * np.log(2)
    tokens, probabilities = distribution(logits, GenerationOptions(temperature=1.0, top_p=top_p))
    assert tokens.tolist() == [0, 1, 2, 3][:kept]
    assert probabilities.sum() == pytest.approx(1)


def test_draws_follow_the_distribution_and_the_seed():
    logits, options = np.log([0.6, 0.3, 0.1]), GenerationOptions(temperature=1.0)
    draws = [choose(logits, options, generator) for generator in [np.random.default_rng(1)] for _ in range(4000)]
    np.testing.assert_allclose(np.bincount(draws) / 4000, [0.6, 0.3, 0.1], atol=0.03)
    again = np.random.default_rng(1)
    assert draws[:50] == [choose(logits, options, again) for _ in range(50)]


def test_greedy_takes_the_first_of_the_likeliest_and_draws_nothing():
    generator = np.random.default_rng(1)
    assert choose(np.array([1.0, 3.0, 3.0]), GenerationOptions(), generator) == 1
    assert generator.random() == np.random.default_rng(1).random()


def pieces_of(text, stop=(), tokenizer=None):
    tokenizer = tokenizer or byte_tokenizer()
    writer = TextWriter(tokenizer, tokenizer.encode("so:").ids, stop)
    said = []
    for token in tokenizer.encode(text, add_special_tokens=False).ids if isinstance(text, str) else text:
        said.append(writer.write(token))
        if writer.stopped:
            break
    return [*said, writer.finish()]


@pytest.mark.parametrize(
    "text", ["plain", "\N{GRINNING FACE}\u00e9\u4e2d a\u0301 \N{MUSICAL SYMBOL G CLEF}.", " lead", ""]
)
def test_characters_come_whole(text):
    tokenizer = byte_tokenizer()
    tokenizer.no_truncation()
    pieces = pieces_of(text, tokenizer=tokenizer)
    assert "".join(pieces) == text
    assert not any(UNFINISHED in piece for piece in pieces)
    assert [len(piece) for piece in pieces if piece] == [1] * len(text)


def test_bytes_that_never_become_a_character_are_said_at_the_end():
    tokenizer = byte_tokenizer()
    half = tokenizer.encode("\N{GRINNING FACE}", add_special_tokens=False).ids[:3]
    assert "".join(pieces_of(half)) == UNFINISHED
    letter = tokenizer.encode("a", add_special_tokens=False).ids
    assert "".join(pieces_of([*half, *letter])) == f"{UNFINISHED}a"


def test_a_stop_string_is_held_back_until_it_is_none():
    assert pieces_of("ab#c", stop=("##",)) == ["a", "b", "", "#c", ""]
    assert pieces_of("ab##c", stop=("##",)) == ["a", "b", "", "", ""]
    assert pieces_of("ab#", stop=("##",)) == ["a", "b", "", "#"]
    assert "".join(pieces_of("aab", stop=("ab", "x"))) == "a"


def test_a_tokenizer_that_drops_the_first_space_keeps_it_within_a_text():
    from tokenizers import Tokenizer
    from tokenizers.decoders import Metaspace as MetaspaceDecoder
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Metaspace

    tokenizer = Tokenizer(WordLevel({"\u2581so": 0, "\u2581a": 1, "\u2581film": 2, "?": 3}, unk_token="?"))  # noqa: S106  # not a password
    tokenizer.pre_tokenizer, tokenizer.decoder = Metaspace(), MetaspaceDecoder()
    assert tokenizer.decode([1, 2]) == "a film"
    writer = TextWriter(tokenizer, [0], ())
    assert [writer.write(1), writer.write(2), writer.finish()] == [" a", " film", ""]


@pytest.mark.parametrize("prompt", ["\u6f22" * 3, "a\N{GRINNING FACE}\u6f22\u6f22", "a", "\u6f22\u6f22a"])
@pytest.mark.parametrize("text", ["\n", "\N{GRINNING FACE}a", "\u6f22\n"])
def test_characters_written_byte_by_byte_come_whole_behind_such_a_prompt(prompt, text):
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteFallback, Fuse, Sequence
    from tokenizers.models import BPE

    pieces = ["a", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(BPE({piece: number for number, piece in enumerate(pieces)}, [], byte_fallback=True))
    tokenizer.decoder = Sequence([ByteFallback(), Fuse()])
    writer = TextWriter(tokenizer, tokenizer.encode(prompt).ids, ())
    said = [writer.write(token) for token in tokenizer.encode(text).ids]
    assert "".join([*said, writer.finish()]) == text
