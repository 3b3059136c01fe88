"""Classify a few sentences from a bundle, with onnxruntime and tokenizers alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from finegates_export import load


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True, help="TSV with sentence and label")
    parser.add_argument("--count", type=int, default=3)
    arguments = parser.parse_args()
    lines = arguments.rows.read_text(encoding="utf-8").splitlines()[1 : arguments.count + 1]
    sentences, labels = zip(*(line.rsplit("\t", 1) for line in lines), strict=True)
    for form in ("float", "int8"):
        print(f"\n{form} graph of {arguments.bundle}:")
        predictions = load(arguments.bundle, form=form).predict(list(sentences))
        for sentence, label, prediction in zip(sentences, labels, predictions, strict=True):
            print(f"  {prediction.label} ({prediction.score:.3f}), people said {label}: {sentence}")


if __name__ == "__main__":
    main()
