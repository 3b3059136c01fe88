"""Rows for every task, in which words (or colours) tell the labels."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import FILLERS, LABELS, OPINIONS, labelled_texts, tiny_base

ROWS = 96
PAIRS = 480
"""A rank correlation over a handful of evaluation pairs is luck."""
QUERIES, RELEVANT = 96, 2
KINDS = len(OPINIONS)
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
SIDE = 20
"""Pixels of an image file: not the size that the model takes."""
TEXT_TASKS = ("multi-label", "token-classification", "question-answering", "embedding")


def several_labels() -> Iterator[dict[str, Any]]:
    """Texts with none, one or two opinions, each a label."""
    generator = np.random.default_rng(3)
    for row in range(ROWS):
        chosen = sorted(generator.choice(3, size=row % 3, replace=False).tolist())
        words = [*generator.choice(FILLERS, 4).tolist(), *(OPINIONS[kind][row % 3] for kind in chosen)]
        yield {"text": " ".join(generator.permutation(words).tolist()), "labels": [LABELS[kind] for kind in chosen]}


def tagged_words() -> Iterator[dict[str, Any]]:
    """Words with a tag each: an opinion's kind, or O; some words are cut into pieces by the tokenizer."""
    kinds = {word: LABELS[kind] for kind, words in enumerate(OPINIONS[:2]) for word in words}
    for text, _ in labelled_texts(ROWS, 2):
        words = [f"{word}s" if word == "film" else word for word in text.split()]
        yield {"tokens": words, "tags": [kinds.get(word, "O") for word in words]}


def questions() -> Iterator[dict[str, Any]]:
    """The answer is the text's opinion, in SQuAD's form."""
    for text, kind in labelled_texts(ROWS, 3):
        answer = next(word for word in OPINIONS[kind] if word in text.split())
        start = f" {text} ".index(f" {answer} ")
        yield {
            "question": "so was the film ?",
            "context": text,
            "answers": {"text": [answer], "answer_start": [start]},
        }


def scored_pairs() -> Iterator[dict[str, Any]]:
    """Two texts, and whether they are of the same opinion, from 1 to 5."""
    texts = labelled_texts(2 * PAIRS, 3)
    order = np.random.default_rng(5).permutation(len(texts))
    for one, other in zip(order[0::2], order[1::2], strict=True):
        same = texts[one][1] == texts[other][1]
        yield {"sentence1": texts[one][0], "sentence2": texts[other][0], "score": 5.0 if same else 1.0}


def ranked_passages() -> Iterator[dict[str, Any]]:
    """Queries with four passages each, one of them relevant: that of the good opinion."""
    for query in itertools.islice(itertools.permutations(FILLERS[:8], 3), QUERIES):
        for kind, words in enumerate(OPINIONS):
            yield {"query": " ".join(query), "passage": " ".join(words), "label": int(kind == RELEVANT)}


MAKERS: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "multi-label": several_labels,
    "token-classification": tagged_words,
    "question-answering": questions,
    "embedding": scored_pairs,
    "reranking": ranked_passages,
}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def task_rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file or folder of rows for every task that is not plain classification."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("task-rows")
    made = {task: write_rows(folder / f"{task}.jsonl", list(make())) for task, make in MAKERS.items()}
    generator = np.random.default_rng(7)
    for split, count in (("train", 24), ("dev", 8)):
        for name, colour in COLOURS.items():
            (folder / "images" / split / name).mkdir(parents=True)
            for number in range(count):
                noise = generator.integers(0, 60, (SIDE, SIDE, 3))
                pixels = np.clip(np.asarray(colour) * 0.7 + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "images" / split / name / f"{number}.png")
    return {**made, "image-classification": folder / "images"}


@pytest.fixture(scope="session")
def image_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT with its image processor."""
    return tiny_base(tmp_path_factory.mktemp("image-base") / "base", "vit", layers=1)
