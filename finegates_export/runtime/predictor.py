"""Text in, label and scores out.

Shapes: B texts, S tokens, C labels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finegates_export.errors import InputError, missing_extra
from finegates_export.files import sha256_file

BUNDLE_JSON = "bundle.json"
Text = str | tuple[str, str]


@dataclass(frozen=True)
class Prediction:
    """The answer for one text."""

    label: str | None
    """The most probable label; None for regression."""
    score: float
    """Its probability; the predicted value for regression."""
    scores: dict[str, float]
    """Probability of every label; empty for regression."""


class Predictor:
    """A loaded bundle. Safe to call from several threads.

    Args:
        session: an onnxruntime session.
        tokenizer: a `tokenizers.Tokenizer`, set to truncate and to pad.
        labels: label names in the order of the logits; empty for regression.
    """

    def __init__(self, session: Any, tokenizer: Any, labels: tuple[str, ...]) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._inputs = [value.name for value in session.get_inputs()]
        self.labels = labels
        self.providers: list[str] = session.get_providers()
        """The providers onnxruntime really uses."""

    def logits(self, texts: Sequence[Text]) -> npt.NDArray[np.float32]:
        """Raw outputs, shape (B, C); one batch, padded to the longest text."""
        if not texts:
            return np.zeros((0, max(1, len(self.labels))), np.float32)
        encoded = self._tokenizer.encode_batch(list(texts))
        columns = {
            "input_ids": [row.ids for row in encoded],
            "attention_mask": [row.attention_mask for row in encoded],
            "token_type_ids": [row.type_ids for row in encoded],
        }
        feed = {name: np.asarray(columns[name], np.int64) for name in self._inputs}
        return np.asarray(self._session.run(["logits"], feed)[0], np.float32)

    def predict(self, texts: Sequence[Text], *, batch_size: int = 32) -> list[Prediction]:
        """Classify texts, or score them.

        Args:
            texts: strings, or pairs of strings where the model was trained on pairs.
            batch_size: texts a call of the model.
        """
        if isinstance(texts, str):
            raise InputError("predict takes a list of texts; wrap a single one: predict([text])")
        logits_BC = np.concatenate(
            [self.logits(texts[start : start + batch_size]) for start in range(0, max(1, len(texts)), batch_size)]
        )
        if not self.labels:
            return [Prediction(None, float(row[0]), {}) for row in logits_BC]
        shifted_BC = np.exp(logits_BC - logits_BC.max(-1, keepdims=True, initial=-np.inf))
        probabilities_BC = shifted_BC / shifted_BC.sum(-1, keepdims=True)
        return [self._prediction(row) for row in probabilities_BC]

    def _prediction(self, probabilities_C: npt.NDArray[np.float32]) -> Prediction:
        best = int(probabilities_C.argmax())
        scores = {label: float(value) for label, value in zip(self.labels, probabilities_C, strict=True)}
        return Prediction(self.labels[best], float(probabilities_C[best]), scores)


def load(bundle: str | Path, *, quantized: bool = False, threads: int | None = None) -> Predictor:
    """Load a bundle.

    Args:
        bundle: the folder that `finegates-export --out FOLDER/` wrote.
        quantized: use the int8 graph.
        threads: processor threads; onnxruntime's choice where None.

    Raises:
        InputError: not a bundle, or a file of it is missing or was changed.
        MissingExtraError: onnxruntime is not installed.
    """
    folder = Path(bundle)
    info = read_bundle(folder)
    graphs = [name for name in info["graphs"] if ("quantized" in name) == quantized]
    if not graphs:
        raise InputError(f"{folder} holds no int8 graph; export it with --quantize int8")
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_extra("onnxruntime", "cpu") from error
    from tokenizers import Tokenizer

    settings = onnxruntime.SessionOptions()
    if threads:
        settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / graphs[0], settings, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(info["max_length"])
    pad = _pad_token(folder)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(pad) or 0, pad_token=pad)
    return Predictor(session, tokenizer, tuple(info["labels"]))


def read_bundle(folder: Path) -> dict[str, Any]:
    """The content of `bundle.json`, every file checked against its hash.

    Raises:
        InputError: not a bundle, or a file of it is missing or was changed.
    """
    path = folder / BUNDLE_JSON
    if not path.is_file():
        raise InputError(f"{folder} is not a bundle: it holds no {BUNDLE_JSON}")
    try:
        info: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files = info["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); export again") from error
    for name, digest in files.items():
        if not (folder / name).is_file():
            raise InputError(f"bundle {folder} is incomplete: {name} is missing; copy it whole or export again")
        if sha256_file(folder / name) != digest:
            raise InputError(f"{folder / name} was changed after the export (its sha256 differs); export again")
    return info


def _pad_token(folder: Path) -> str:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return "[PAD]"
    token = json.loads(path.read_text(encoding="utf-8")).get("pad_token") or "[PAD]"
    return str(token["content"] if isinstance(token, dict) else token)
