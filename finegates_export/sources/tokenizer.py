"""A transformers tokenizer's choices around a text, as the one description that everything after training follows."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finegates_export.common.tasks import task_of
from finegates_export.common.text_inputs import TextInputs
from finegates_export.errors import MissingExtraError, RunFolderError

if TYPE_CHECKING:
    from finegates_export.sources.run_folder import RunInfo

SEGMENTS = "token_type_ids"
TOKENIZER_JSON = "tokenizer.json"
SENTENCEPIECE = "sentencepiece"
TIKTOKEN = "tiktoken.model"
"""A vocabulary for another package, which transformers names."""


def check_readable(name: str, folder: Path) -> None:
    """Name the package that a tokenizer's only file needs; transformers names another.

    Args:
        name: the base's, for messages.
        folder: the base.

    Raises:
        MissingExtraError: the tokenizer is a sentencepiece model, and that package is not installed.
    """
    if (folder / TOKENIZER_JSON).is_file() or find_spec(SENTENCEPIECE) is not None:
        return
    model = next((file.name for file in sorted(folder.glob("*.model")) if file.name != TIKTOKEN), None)
    if model is not None:
        raise MissingExtraError(
            f"{name}: its tokenizer is the {SENTENCEPIECE} model {model}, without a {TOKENIZER_JSON}, and "
            f"{SENTENCEPIECE} is not installed. Run: pip install {SENTENCEPIECE}"
        )


def text_inputs_of(tokenizer: Any, max_length: int) -> TextInputs:
    """How a tokenizer, called with truncation, reads texts.

    Args:
        tokenizer: a `transformers` tokenizer.
        max_length: most tokens of a row.
    """
    return TextInputs(
        max_length,
        truncation_side=tokenizer.truncation_side,
        segments=SEGMENTS in tokenizer.model_input_names,
        pad_token_id=tokenizer.pad_token_id or 0,
        splits_special_tokens=bool(getattr(tokenizer, "split_special_tokens", False)),
    )


def run_text_inputs(info: RunInfo, folder: Path) -> TextInputs | None:
    """How a run read its texts; None for images.

    A run that was trained before runs kept this is asked through its tokenizer.

    Args:
        info: the run's record.
        folder: where its tokenizer lies.

    Raises:
        RunFolderError: such a run lacks its tokenizer.
    """
    if task_of(info.task).images:
        return None
    if info.text is not None:
        return TextInputs.from_json(info.text)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        told = str(error).splitlines()[0]
        raise RunFolderError(f"{folder} lacks its tokenizer ({told}); copy the run folder whole") from error
    return text_inputs_of(tokenizer, info.max_length)
