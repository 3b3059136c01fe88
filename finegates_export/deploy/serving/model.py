"""The model that a server serves: its description, and a replica's work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finegates_export.common.files import JsonObject
from finegates_export.common.tasks import TASKS, Task, task_of
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.errors import InputError, UnsupportedError
from finegates_export.runtime import load
from finegates_export.runtime.bundle_files import read_bundle
from finegates_export.runtime.predictor import Predictor

Text = str | tuple[str, str]
"""A text, or a pair of texts for a model that was trained on pairs."""
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
    """

    name: str
    task: Task
    labels: tuple[str, ...]
    form: str
    providers: tuple[str, ...]


def check_served(options: ServeOptions) -> ServedModel:
    """Load the model once in this process, so that errors show before any server starts.

    Raises:
        InputError: not a bundle, a file of it is missing or was changed, or the provider is missing.
        UnsupportedError: the task cannot be served.
    """
    info = read_bundle(options.bundle)
    task = task_of(info["task"])
    if not task.served:
        *some, last = [one.name for one in TASKS.values() if one.served]
        raise UnsupportedError(f"task {task.name} cannot be served; supported are {', '.join(some)} and {last}")
    predictor = load_served(options)
    try:
        predictor.predict([task.example])
    except Exception as error:
        # onnxruntime's and the tokenizer's errors have no common root
        raise InputError(f"the model of {options.bundle} failed on a test text: {error}; export it again") from error
    return ServedModel(
        options.name or task.name, task, tuple(predictor.labels), options.form, tuple(predictor.providers)
    )


def load_served(options: ServeOptions) -> Predictor:
    """Load the bundle as the options ask.

    Raises:
        UnsupportedError: a bundle for text generation.
    """
    loaded = load(options.bundle, form=options.form, threads=options.threads, provider=options.provider)
    if not isinstance(loaded, Predictor):
        raise UnsupportedError(f"task {loaded.task} cannot be served; load the bundle with finegates_export.load")
    return loaded


class Replica:
    """One copy of the model; Ray runs it in a process of its own.

    Args:
        options: the server's options.
    """

    def __init__(self, options: ServeOptions) -> None:
        self._predictor, self._rows = load_served(options), options.rows
        self._task = task_of(self._predictor.task)
        self._call_tokens = CALL_TOKENS if options.provider == "cpu" else None

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
