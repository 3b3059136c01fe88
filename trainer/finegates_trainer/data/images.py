"""Images in folders named after their class, with or without parent folders for the splits."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from finegates_export.common.tasks.labels import label_name
from finegates_export.errors import InputError
from finegates_trainer.data.image_files import check_image
from finegates_trainer.data.rows import Rows
from finegates_trainer.data.tables import EVAL_NAMES

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
TRAIN = "train"
PASSED_OVER = (".*", "Thumbs.db", "desktop.ini", "README*", "LICENSE*")
"""What file managers and people leave beside images; everything else is an image, a class or a mistake."""


def read_image_folders(source: str, *, held_out: bool = True, headers: bool = True) -> tuple[Rows, Rows | None]:
    """Training rows and evaluation rows (None if there is only one set).

    `source/cat/1.png` or `source/train/cat/1.png` beside `source/dev/cat/2.png`.

    Args:
        source: the folder.
        held_out: whether to read evaluation rows.
        headers: whether to check each image by its header.

    Raises:
        InputError: not a folder, no images in it, or something in it that is neither a class nor an image.
        MissingExtraError: Pillow is not installed.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise InputError(f"data {source} is not a folder; images must lie in folders named after their class")
    train = folder / TRAIN
    if not train.is_dir():
        return _classes(folder, headers=headers), None
    for other in _inside(folder):
        if other.name not in (TRAIN, *EVAL_NAMES):
            raise InputError(
                f"{other} lies beside {TRAIN} and would not be read; a folder of splits holds {TRAIN} and one of "
                f"{', '.join(EVAL_NAMES)}. Move or remove it"
            )
    others = next((folder / name for name in EVAL_NAMES if (folder / name).is_dir()), None) if held_out else None
    return _classes(train, headers=headers), _classes(others, headers=headers) if others else None


def _classes(folder: Path, *, headers: bool) -> Rows:
    """The images of every class.

    Raises:
        InputError: there is none, or something else.
    """
    found = {path: _inside(path) if path.is_dir() else None for path in _inside(folder)}
    if not any(_is_image(image) for images in found.values() for image in images or ()):
        raise InputError(
            f"folder {folder} holds no images in folders named after their class; expected are CLASS/NAME with one of "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    named: dict[str, Path] = {}
    files = []
    for path, images in found.items():
        files += _images_of(path, images)
        other = named.setdefault(label_name(path.name), path)
        if other != path:
            raise InputError(f"{other} and {path} name the same class {label_name(path.name)!r}; rename or join them")
    for image in files if headers else ():
        check_image(image)
    return Rows([*files], None, [image.parent.name for image in files])


def _images_of(path: Path, images: list[Path] | None) -> list[Path]:
    """The images of a class.

    Args:
        path: what lies among the classes.
        images: what lies in it; None if it is a file.

    Raises:
        InputError: it is no class, or holds something else.
    """
    if images is None:
        raise InputError(f"{path} lies beside the folders of classes and has no class; move it into one or remove it")
    _check_name(path)
    if not images:
        raise InputError(f"class folder {path} holds no images; add some or remove it")
    for image in images:
        _check_name(image)
        if image.is_dir():
            raise InputError(f"{image} is a folder within a class; put its images into {path}, or remove it")
        if not _is_image(image):
            raise InputError(
                f"{image} lies in a class but is no image (one of {', '.join(IMAGE_SUFFIXES)}); convert or remove it"
            )
    return images


def _check_name(path: Path) -> None:
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the name {path.name!a} in {path.parent} is not UTF-8; rename it") from error


def _inside(folder: Path) -> list[Path]:
    """What lies in a folder, in the order of names, without what is passed over."""
    return sorted(path for path in folder.iterdir() if not any(fnmatch(path.name, name) for name in PASSED_OVER))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES
