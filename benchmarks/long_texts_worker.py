"""Predicts long texts once, in a process of its own; see `long_texts.py`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from finegates_export import load
from finegates_export.common.files import write_json
from finegates_export.pipeline.memory import peak_bytes

LETTERS = "a b c d e f g h i j "
OTHERS = "k l m n o p q r s t "


def texts_of(kind: str, characters: int) -> list[Any]:
    """The inputs of a kind, with so many characters in all."""
    whole = LETTERS * (characters // len(LETTERS))
    if kind == "one text":
        return [whole]
    if kind == "100 texts":
        return [whole[: characters // 100]] * 100
    if kind == "2,000 texts":
        return [whole[: characters // 2000]] * 2000
    if kind == "one pair":
        return [(whole[: characters // 2], OTHERS * (characters // 2 // len(OTHERS)))]
    return ["a" * characters]


def main() -> None:
    """Entry point; the first argument names the spec, the second where the result goes."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    texts = texts_of(spec["kind"], spec["characters"])
    predictor = load(spec["bundle"], threads=1)
    predictor.predict([LETTERS * 60] * 32)  # what the graph takes for full rows is not the tokenizer's
    before = peak_bytes()
    predictor.predict(texts)
    write_json(Path(sys.argv[2]), {"more": peak_bytes() - before})


if __name__ == "__main__":
    main()
