"""Text generation from a bundle: prompts or chats in, continuations out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NoReturn

import numpy as np

from finegates_export.common.options import check
from finegates_export.errors import InputError
from finegates_export.runtime.batching import by_length
from finegates_export.runtime.causal import CausalGraph
from finegates_export.runtime.draft import Draft
from finegates_export.runtime.generation import Generation, GenerationOptions
from finegates_export.runtime.limits import Limits
from finegates_export.runtime.prompts import Prompt, PromptReader
from finegates_export.runtime.reloading import Reloadable
from finegates_export.runtime.session import OrtSession
from finegates_export.runtime.texts import check_no_table

DEFAULTS = GenerationOptions()


class TextGenerator(Reloadable):
    """A loaded bundle for text generation. Safe to call from several threads.

    Args:
        session: an onnxruntime session.
        reader: makes token ids of prompts.
        limits: the model's limits.
    """

    task = "text-generation"

    def __init__(self, session: OrtSession, reader: PromptReader, limits: Limits) -> None:
        self._reader = reader
        self.graph = CausalGraph(session)
        """The graph that reads and continues token ids."""
        self.limits = limits
        """Where texts end."""
        self.providers: list[str] = session.get_providers()
        """The providers that really run the graph."""
        self.runtime = ""
        """What runs the graph, in words; where that was measured, how fast it is here."""

    def generate(
        self, prompts: Iterable[Prompt], options: GenerationOptions = DEFAULTS, *, batch_size: int = 8
    ) -> list[Generation]:
        """Continue every prompt; results come in the order of the prompts.

        A prompt gets the same text in any batch, except where rounding differs between batches.

        Args:
            prompts: texts, or chats as lists of messages `{"role": ..., "content": ...}`, in any mix.
            options: how to continue them.
            batch_size: maximum prompts per batch; prompts of similar length are batched together.

        Raises:
            InputError: an input that is not a prompt, or a prompt longer than the model can read.
            MissingExtraError: a chat, and jinja2 is not installed.
        """
        check(batch_size > 0, "batch_size", f"must be positive, got {batch_size}")
        drafts = [self._draft(prompt, number, options) for number, prompt in enumerate(_listed(prompts))]
        for batch in by_length([len(draft.prompt) for draft in drafts], batch_size):
            for _ in self._write([drafts[number] for number in batch]):
                pass
        return [draft.result() for draft in drafts]

    def stream(self, prompt: Prompt, options: GenerationOptions = DEFAULTS) -> TextStream:
        """Continue one prompt and yield the text while it is being generated.

        Returns:
            an iterator over pieces of text. Joined, they are the text that `generate` returns for this prompt alone;
            afterwards its `result` is that `Generation`.

        Raises:
            InputError: an input that is not a prompt, or a prompt longer than the model can read.
            MissingExtraError: a chat, and jinja2 is not installed.
        """
        draft = self._draft(prompt, 0, options)
        return TextStream(draft, self._write([draft]))

    def encode(self, prompt: Prompt) -> list[int]:
        """The token ids of a prompt, as passed to the model.

        Raises:
            InputError: an input that is not a prompt.
            MissingExtraError: a chat, and jinja2 is not installed.
        """
        return self._reader.ids(prompt, 0)

    def predict(self, inputs: object, **how: object) -> NoReturn:
        """Not available for text generation.

        Raises:
            InputError: always.
        """
        _ = inputs, how
        raise InputError(f"a bundle for {self.task} writes texts: call generate or stream, not predict")

    def _draft(self, prompt: object, number: int, options: GenerationOptions) -> Draft:
        tokens = self._reader.ids(prompt, number)
        if not tokens:
            raise InputError(f"prompt {number} has no tokens, but generation needs at least one; give some text")
        if len(tokens) > self.limits.positions:
            raise InputError(
                f"prompt {number} has {len(tokens)} tokens, but the model reads {self.limits.positions}; shorten it"
            )
        return Draft(number, tokens, self._reader.tokenizer, self.limits, options)

    def _write(self, drafts: list[Draft]) -> Iterator[None]:
        """Finish all drafts, one token each at a time; finished drafts leave the batch."""
        cache, logits_BV = self.graph.read([draft.prompt for draft in drafts], self._reader.pad_id)
        while True:
            tokens = [draft.take(row_V) for draft, row_V in zip(drafts, logits_BV, strict=True)]
            yield
            going = [row for row, draft in enumerate(drafts) if draft.finish_reason is None]
            if not going:
                return
            if len(going) < len(drafts):
                cache.keep(going)
                drafts = [drafts[row] for row in going]
            ids_BS = np.array([[tokens[row]] for row in going], np.int64)
            logits_BV = cache.read(ids_BS, np.ones_like(ids_BS))


class TextStream:
    """The pieces of a text while it is being generated.

    Args:
        draft: the text.
        steps: adds a token at each step.
    """

    def __init__(self, draft: Draft, steps: Iterator[None]) -> None:
        self._draft, self._steps, self._told = draft, steps, 0

    def __iter__(self) -> TextStream:
        return self

    def __next__(self) -> str:
        while True:
            next(self._steps)
            piece, self._told = self._draft.since(self._told), self._draft.pieces
            if piece:
                return piece

    @property
    def result(self) -> Generation | None:
        """The complete result; None before the end."""
        return self._draft.result() if self._draft.finish_reason else None


def _listed(prompts: object) -> list[object]:
    if isinstance(prompts, (str, bytes)):
        raise InputError("generate takes a list of prompts; wrap a single one: generate([prompt])")
    if isinstance(prompts, Mapping) or not isinstance(prompts, Iterable):
        raise InputError(f"generate takes a list of prompts, got {type(prompts).__name__}")
    check_no_table(prompts, "generate")
    listed = list(prompts)
    if any(isinstance(prompt, Mapping) for prompt in listed):
        raise InputError("generate takes a list of prompts, and a chat is one prompt: generate([messages])")
    return listed
