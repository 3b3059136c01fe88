"""Where texts end: end tokens, and the model's number of positions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.files import JsonObject
from finegates_export.common.json_files import read_object
from finegates_export.errors import InputError
from finegates_export.runtime.bundle_fields import is_whole

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONFIG, GENERATION_CONFIG, TOKENIZER_CONFIG = "config.json", "generation_config.json", "tokenizer_config.json"
POSITIONS = ("max_position_embeddings", "n_positions")
"""Names for the number of positions in configs."""


@dataclass(frozen=True)
class Limits:
    """Limits of a bundle's model."""

    positions: int
    """Maximum tokens, including the prompt."""
    ends: tuple[int, ...]
    """Tokens that end a text; may be empty."""

    @classmethod
    def of(cls, folder: Path, info: JsonObject, tokenizer: Tokenizer) -> Limits:
        """Read from the files of a bundle: first `generation_config.json`, then `config.json`, then the tokenizer's.

        Args:
            folder: the bundle.
            info: its `bundle.json`.
            tokenizer: a `tokenizers.Tokenizer`.

        Raises:
            InputError: no file says how many positions the model has, or a file is damaged.
        """
        config, generation, tokens = (_read(folder / name) for name in (CONFIG, GENERATION_CONFIG, TOKENIZER_CONFIG))
        counts = [info.get("positions"), *(config.get(name) for name in POSITIONS)]
        known = next((count for count in counts if isinstance(count, int) and is_whole(count) and count > 0), None)
        if known is None:
            raise InputError(f"{folder / CONFIG} lacks {' and '.join(POSITIONS)}, so no length is safe; export again")
        said = [generation.get("eos_token_id"), config.get("eos_token_id"), _end_token(tokens, tokenizer)]
        return cls(known, next((_ids(end, folder) for end in said if end is not None), ()))


def _read(file: Path) -> JsonObject:
    return read_object(file, InputError, "export again") if file.is_file() else {}


def _end_token(tokens: JsonObject, tokenizer: Tokenizer) -> int | None:
    token = tokens.get("eos_token")
    content = token.get("content") if isinstance(token, dict) else token
    return tokenizer.token_to_id(content) if isinstance(content, str) else None


def _ids(end: object, folder: Path) -> tuple[int, ...]:
    ends = tuple(end) if isinstance(end, list) else (end,)
    if not all(is_whole(one) for one in ends):
        raise InputError(
            f"{folder / CONFIG} is damaged (eos_token_id: must be token ids, got {end!r:.80}); export again"
        )
    return ends
