"""A decoder with a smaller vocabulary: rows of embeddings and LM head, ids, and tokenizer files.

The model computes the same logits for kept tokens. Sampling differs: the probability of removed tokens is spread over
kept ones.

Shapes: V kept tokens.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from finegates_export.common.cache_layout import IDS, MASK
from finegates_export.common.files import write_json
from finegates_export.common.tokenizer_files import TOKENIZER_CONFIG
from finegates_export.errors import InputError
from finegates_export.families.model_config import ModelConfig
from finegates_export.pruning.vocabulary.needed import Content, cut_content, needed_tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor
    from transformers import PreTrainedModel

    from finegates_export.common.text_inputs import TextInputs
    from finegates_export.sources.sample_texts import SampleText

TOKENIZER = "tokenizer.json"
TEMPLATE = "chat_template.jinja"
OLDER_FILES = ("vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json")
"""Files that repeat the whole vocabulary in other forms; `tokenizer.json` takes precedence."""
TOKEN_SETTING = re.compile(r"_token_ids?$")
QUOTED = re.compile(r"""(?P<mark>['"])(?P<text>(?:\\.|(?!(?P=mark)).)*)(?P=mark)""", re.DOTALL)
ESCAPE, ESCAPES = re.compile(r"\\(.)", re.DOTALL), {"n": "\n", "r": "\r", "t": "\t"}
SUPPRESSED = ("suppress_tokens", "begin_suppress_tokens")
FORBIDDEN = "bad_words_ids"

Settings = dict[str, Any]
"""Settings of a model or of its generation, as JSON types by name."""
LABELS = "labels"
"""The run's labels beside its rows: for each token the one to predict, negative where there is none."""


@dataclass(frozen=True)
class VocabularyCut:
    """The kept vocabulary."""

    kept: npt.NDArray[np.int64]
    """Old ids, ascending, shape (V,); the position of each is its new id."""
    before: int
    """Number of tokens before."""
    content: Content
    """The smaller tokenizer.json."""

    @property
    def size(self) -> int:
        """Number of kept tokens, V."""
        return len(self.kept)

    def samples(self, samples: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
        """A run's rows in new ids, without rows that need a removed token; None if no row is left."""
        import torch

        if samples is None:
            return None
        old, attended = samples[IDS].numpy(), samples[MASK].numpy().astype(bool)
        whole = (np.isin(old, self.kept) | ~attended).all(1)
        if not whole.any():
            return None
        new = np.searchsorted(self.kept, np.where(attended, old, self.kept[0]))
        rows = torch.from_numpy(whole)
        kept = {IDS: torch.from_numpy(new[whole]), MASK: samples[MASK][rows]}
        if LABELS in samples:
            labels = samples[LABELS][rows].numpy().astype(np.int64)
            kept[LABELS] = torch.from_numpy(np.where(labels < 0, labels, np.searchsorted(self.kept, labels)))
        return kept

    def texts(self, texts: Sequence[SampleText]) -> tuple[SampleText, ...]:
        """A run's texts in new ids, without those that need a removed token."""
        return tuple(
            replace(one, ids=tuple(np.searchsorted(self.kept, one.ids).tolist()))
            for one in texts
            if np.isin(one.ids, self.kept).all()
        )

    def text_inputs(self, how: TextInputs) -> TextInputs:
        """How texts are read, with the new id of the padding token; 0 if it was removed, as padding is never read."""
        pad = int(np.searchsorted(self.kept, how.pad_token_id))
        kept = pad < self.size and self.kept[pad] == how.pad_token_id
        return replace(how, pad_token_id=pad if kept else 0)

    def shorten(self, model: PreTrainedModel) -> None:
        """Cut a causal language model's embeddings and LM head, in place; tied ones stay tied."""
        import torch
        from torch import nn

        rows = torch.from_numpy(self.kept)
        table, head = model.get_input_embeddings(), model.get_output_embeddings()
        tied = head.weight is table.weight

        def cut(values: Tensor) -> nn.Parameter:
            return nn.Parameter(values.detach()[rows].clone(), requires_grad=False)

        table.weight, table.num_embeddings, table.padding_idx = cut(table.weight), self.size, None
        head.weight, head.out_features = table.weight if tied else cut(head.weight), self.size
        if head.bias is not None:
            head.bias = cut(head.bias)
        model.config = self.config(model.config)

    def config(self, config: ModelConfig) -> ModelConfig:
        """A transformers config with the new ids."""
        changed = copy.deepcopy(config)
        changed.vocab_size = self.size
        for name, value in self.settings(config.to_dict()).items():
            if TOKEN_SETTING.search(name):
                setattr(changed, name, value)
        return changed

    def settings(self, values: Settings) -> Settings:
        """Settings of a model or of its generation with the new ids."""
        return {name: self._renumbered(name, value) for name, value in values.items()}

    def write_tokenizer(self, files: Iterable[Path], folder: Path) -> None:
        """Copy a tokenizer's files with the new ids.

        Args:
            files: a run's `companions`.
            folder: an empty one.
        """
        import shutil

        for file in files:
            if file.name not in OLDER_FILES:
                shutil.copyfile(file, folder / file.name)
        write_json(folder / TOKENIZER, self.content)
        settings = folder / TOKENIZER_CONFIG
        if settings.is_file():
            values = json.loads(settings.read_text(encoding="utf-8"))
            if "added_tokens_decoder" in values:
                entries = values["added_tokens_decoder"].items()
                values["added_tokens_decoder"] = {str(self._new(int(number))): entry for number, entry in entries}
            write_json(settings, values)

    def _renumbered(self, name: str, value: Any) -> Any:
        if TOKEN_SETTING.search(name) and value is not None:
            return [self._new(one) for one in value] if isinstance(value, list) else self._new(value)
        if name in SUPPRESSED and isinstance(value, list):
            return [self._new(one) for one in value if one in self.kept]
        if name == FORBIDDEN and isinstance(value, list):  # a word with a removed token cannot be generated any more
            return [[*map(self._new, word)] for word in value if np.isin(word, self.kept).all()]
        return value

    def _new(self, number: int) -> int:
        """A token's new id; a negative number means none, and stays unchanged."""
        return number if number < 0 else int(np.searchsorted(self.kept, number))


def cut_to_text(text: Path, folder: Path, vocabulary: int, settings: list[Settings]) -> VocabularyCut:
    """The vocabulary that a text needs.

    Args:
        text: a text file, or JSON lines, where all strings count.
        folder: the tokenizer's folder.
        vocabulary: the model's number of tokens, which padding may make larger than the tokenizer's.
        settings: settings of the model and its generation; tokens they name are kept.

    Raises:
        InputError: the text or the tokenizer cannot be read, the text is empty, or the model has fewer tokens than the
            tokenizer.
        UnsupportedError: the vocabulary is not byte-pair encoding.
    """
    content, tokenizer = _tokenizer(folder)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    read = {number for entry in tokenizer.encode_batch(list(_texts(text))) for number in entry.ids}
    if not read:
        raise InputError(f"vocabulary-of: {text} holds no text; name a file with texts of the task")
    template = folder / TEMPLATE
    if template.is_file():
        written = tokenizer.encode_batch(list(_written_by(template.read_text(encoding="utf-8"))))
        read |= {number for entry in written for number in entry.ids}
    named = {number for values in settings for number in _named(values) if 0 <= number < vocabulary}
    kept = sorted(set(needed_tokens(content, read | named)) | named)
    if kept[-1] >= vocabulary:
        raise InputError(
            f"vocabulary-of: the tokenizer in {folder} has a token {kept[-1]}, but the model has "
            f"{vocabulary}; omit --vocabulary-of, or use the tokenizer that the model was trained with"
        )
    return VocabularyCut(np.asarray(kept, np.int64), vocabulary, cut_content(content, kept))


def cut_again(whole: Path, short: Path, vocabulary: int, size: int) -> VocabularyCut:
    """The cut that a bundle was made with, from the tokens of its tokenizer.

    Args:
        whole: folder of the tokenizer that was cut.
        short: the bundle.
        vocabulary: the model's number of tokens before.
        size: its number of tokens in the bundle.

    Raises:
        InputError: a tokenizer cannot be read, or they do not determine the bundle's tokens.
    """
    (_, before), (content, after) = map(_tokenizer, (whole, short))
    old, new = before.get_vocab(with_added_tokens=True), after.get_vocab(with_added_tokens=True)
    kept = [old.get(token, vocabulary) for token in sorted(new, key=new.__getitem__)]
    if sorted(new.values()) != list(range(size)) or kept != sorted({number for number in kept if number < vocabulary}):
        raise InputError(
            f"vocabulary-of: {whole / TOKENIZER} does not say which of its tokens are the {size} of {short}; name the "
            "run that was exported"
        )
    return VocabularyCut(np.asarray(kept, np.int64), vocabulary, content)


def _tokenizer(folder: Path) -> tuple[Content, Tokenizer]:
    """A tokenizer.json, as content and as a tokenizer."""
    from tokenizers import Tokenizer

    place = folder / TOKENIZER
    try:
        content: Content = json.loads(place.read_text(encoding="utf-8"))
        return content, Tokenizer.from_file(str(place))
    except Exception as error:  # the tokenizers library has no error class of its own
        raise InputError(
            f"vocabulary-of: {place} cannot be read ({error}); copy the base's tokenizer.json there"
        ) from error


def _named(settings: Settings) -> Iterator[int]:
    for name, value in settings.items():
        if TOKEN_SETTING.search(name) and value is not None:
            yield from value if isinstance(value, list) else (value,)


def _written_by(template: str) -> Iterator[str]:
    """A chat template, and every quoted text in it with escapes resolved."""
    yield template
    for found in QUOTED.finditer(template):
        yield ESCAPE.sub(lambda escape: ESCAPES.get(escape[1], escape[1]), found["text"])


def _texts(path: Path) -> Iterator[str]:
    try:
        whole = path.read_text(encoding="utf-8")
        if path.suffix != ".jsonl":
            yield whole
            return
        # JSON lines end only at newlines, not at the other characters of splitlines().
        for line in filter(str.strip, whole.split("\n")):
            yield from _strings(json.loads(line))
    except (OSError, ValueError) as error:
        raise InputError(f"vocabulary-of: {path} cannot be read ({error}); name a UTF-8 text or JSON lines") from error


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
