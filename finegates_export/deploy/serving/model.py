"""The model that a server serves: its description, and a replica's work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from finegates_export.common.files import JsonObject, sha256_file
from finegates_export.common.tasks import TASKS, Task, task_of
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.errors import InputError, UnsupportedError
from finegates_export.runtime import load
from finegates_export.runtime.bundle_files import BUNDLE_JSON, read_bundle
from finegates_export.runtime.predictor import Predictor

Text = str | tuple[str, str] | list[str]
"""A text, a pair of texts for a model that was trained on pairs, or a list of words for token classification."""
Answer = JsonObject
"""The answer for one text, as JSON types; `{"error": ...}` if the model cannot read it."""
CALL_TOKENS = 16
"""Padding tokens that cost as much as one more call on a CPU, where few rows run as efficiently as many."""


@dataclass(frozen=True)
class ServedModel:
    """The description that clients get.

    Args:
        name: its name in requests.
        task: the task it was trained for.
        labels: label names in the order of the scores.
        form: which graph.
        providers: the providers that onnxruntime uses.
        digest: see `bundle_digest`.
    """

    name: str
    task: Task
    labels: tuple[str, ...]
    form: str
    providers: tuple[str, ...]
    digest: str = ""


class Replica:
    """One copy of the model.

    Args:
        bundle: the folder.
        options: the server's options.
        name: the model's name in requests; empty for its task.

    Raises:
        InputError: not a bundle, a file of it is missing or was changed, or the provider is missing.
        UnsupportedError: the task cannot be served.
    """

    def __init__(self, bundle: Path, options: ServeOptions, name: str = "") -> None:
        digest = bundle_digest(bundle)
        task = task_of(read_bundle(bundle)["task"])
        if not task.served:
            *some, last = [one.name for one in TASKS.values() if one.served]
            raise UnsupportedError(f"task {task.name} cannot be served; supported are {', '.join(some)} and {last}")
        loaded = load(bundle, form=options.form, threads=options.threads, provider=options.provider)
        self._predictor, self._task, self._rows = cast("Predictor", loaded), task, options.rows
        self._call_tokens = CALL_TOKENS if options.provider == "cpu" else None
        try:
            self._predictor.predict([task.example])
        except Exception as error:
            # onnxruntime's and the tokenizer's errors have no common root
            raise InputError(f"the model of {bundle} failed on a test text: {error}; export it again") from error
        labels, providers = tuple(self._predictor.labels), tuple(self._predictor.providers)
        self.model = ServedModel(name or task.name, task, labels, options.form, providers, digest)
        """What clients are told."""

    def answers(self, texts: Sequence[Text]) -> list[Answer]:
        """One answer per text."""
        try:
            found = self._predictor.predict(texts, batch_size=self._rows, call_tokens=self._call_tokens)
            return [self._task.as_json(one) for one in found]
        except InputError as error:
            if len(texts) == 1:
                return [{"error": str(error)}]
            # one bad text must not fail those of other requests
            return [self.answers([text])[0] for text in texts]


def bundle_digest(bundle: Path) -> str:
    """The sha256 of `bundle.json`, which holds those of all files; empty if there is none."""
    path = bundle / BUNDLE_JSON
    return sha256_file(path) if path.is_file() else ""
