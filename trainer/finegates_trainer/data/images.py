"""Images in folders named after their class, with or without parent folders for the splits."""

from __future__ import annotations

from pathlib import Path

from finegates_export.errors import InputError
from finegates_trainer.data.rows import Rows
from finegates_trainer.data.tables import EVAL_NAMES

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def read_image_folders(source: str, *, held_out: bool = True) -> tuple[Rows, Rows | None]:
    """Training rows and evaluation rows (None if there is only one set).

    `source/cat/1.png` or `source/train/cat/1.png` beside `source/dev/cat/2.png`.

    Args:
        source: the folder.
        held_out: whether to read evaluation rows.

    Raises:
        InputError: not a folder, or no images in it.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise InputError(f"data {source} is not a folder; images must lie in folders named after their class")
    train = folder / "train"
    if not train.is_dir():
        return _classes(folder), None
    others = next((folder / name for name in EVAL_NAMES if (folder / name).is_dir()), None) if held_out else None
    return _classes(train), _classes(others) if others else None


def _classes(folder: Path) -> Rows:
    files = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise InputError(
            f"folder {folder} holds no images in folders named after their class; expected are CLASS/NAME with one of "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    return Rows(list(files), None, [path.parent.name for path in files])
