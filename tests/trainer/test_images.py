"""Every image that a training reads is what a viewer shows, and what cannot be read that way is refused by its name."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finegates_export.errors import InputError
from finegates_trainer.data import DataSource, open_image, read_data

GREYS = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
CORNER = 0x112
"""The EXIF field that says which corner a picture begins at."""


def halves() -> Image.Image:
    """Red on the left, blue on the right; twice as wide as high."""
    image = Image.new("RGB", (16, 8), "red")
    image.paste("blue", (8, 0, 16, 8))
    return image


def grey(kind: type[np.generic] = np.uint16) -> Image.Image:
    return Image.fromarray(GREYS.astype(kind))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_in_16_bits_keeps_its_upper_8(tmp_path: Path, suffix: str) -> None:
    grey().save(tmp_path / f"a.{suffix}")
    found = np.asarray(open_image(tmp_path / f"a.{suffix}"))
    np.testing.assert_array_equal(found, np.repeat((GREYS >> 8).astype(np.uint8)[..., None], 3, -1))


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("1", "png"), ("L", "png"), ("LA", "png"), ("P", "png"), ("P", "gif"), ("RGBA", "png"), ("RGBA", "webp"),
     ("CMYK", "jpg"), ("CMYK", "tif"), ("YCbCr", "tif"), ("RGB", "bmp"), ("RGB", "jpg")],
)  # fmt: skip
def test_every_mode_of_8_bits_shows_the_same_black_and_white(tmp_path: Path, mode: str, suffix: str) -> None:
    image = Image.new("RGB", (16, 8), "black")
    image.paste("white", (8, 0, 16, 8))
    path = tmp_path / f"a.{suffix}"
    image.convert(mode).save(path)
    found = np.asarray(open_image(path)).astype(int)
    assert found.shape == (8, 16, 3)
    assert found[:, :8].max() <= 2
    assert found[:, 8:].min() >= 253


@pytest.mark.parametrize("corner", range(1, 9))
def test_an_image_is_turned_as_its_exif_data_say(tmp_path: Path, corner: int) -> None:
    shown = {1: "wide", 2: "wide mirrored", 3: "wide mirrored", 4: "wide", 5: "red above", 6: "red above"}
    exif = Image.Exif()
    exif[CORNER] = corner
    halves().save(tmp_path / "a.png", exif=exif)
    found = np.asarray(open_image(tmp_path / "a.png"))
    first = "red" if tuple(found[0, 0]) == (255, 0, 0) else "blue"
    wide = found.shape[1] > found.shape[0]
    told = ("wide" if first == "red" else "wide mirrored") if wide else f"{first} above"
    assert told == shown.get(corner, "blue above")


def test_only_transparent_pixels_make_an_image_unreadable(tmp_path: Path) -> None:
    opaque = Image.new("RGBA", (4, 4), (10, 20, 30, 255))
    opaque.save(tmp_path / "a.png")
    assert np.asarray(open_image(tmp_path / "a.png"))[0, 0].tolist() == [10, 20, 30]
    Image.new("L", (4, 4), 9).save(tmp_path / "a.png", transparency=0)
    assert np.asarray(open_image(tmp_path / "a.png")).max() == 9


def _cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def _huge(path: Path) -> None:
    """A PNG that says it has 400 million pixels."""
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0),
        b"IDAT": zlib.compress(b""),
        b"IEND": b"",
    }
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def _noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3)).astype(np.uint8))


REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "half transparent": ("png", lambda path: Image.new("RGBA", (4, 4), (1, 2, 3, 128)).save(path), "partly transp"),
    "a transparent index": ("png", lambda path: Image.new("P", (4, 4)).save(path, transparency=0), "partly transp"),
    "a transparent grey": ("png", lambda path: grey().save(path, transparency=0), "partly transparent"),
    "an animated GIF": (
        "gif", lambda path: halves().save(path, save_all=True, append_images=[_noise()]), "2 frames or pages",
    ),
    "an animated PNG": (
        "png", lambda path: halves().save(path, save_all=True, append_images=[halves().rotate(180)]), "2 frames",
    ),
    "pages": ("tif", lambda path: halves().save(path, save_all=True, append_images=[halves()]), "2 frames or pages"),
    "integers": ("tif", lambda path: grey(np.int32).save(path), "grey in 32 bits"),
    "floats": ("tif", lambda path: grey(np.float32).save(path), "grey in 32 bits"),
    "lightness": ("tif", lambda path: Image.new("LAB", (4, 4)).save(path), "mode LAB"),
    "a negative": ("tif", lambda path: grey().save(path, tiffinfo={262: 0}), "white is zero"),
    "too many pixels": ("png", _huge, "more pixels than Pillow"),
    "nothing": ("png", lambda path: path.write_bytes(b""), "cannot be read as an image"),
    "a page description": ("jpg", lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "cannot be read as an"),
    "a link to nothing": ("png", lambda path: path.symlink_to("nowhere"), "is no file"),
    "half a PNG": ("png", lambda path: (_noise().save(path), _cut(path, 0.5)), "cannot be read as an image"),
    "most of a JPEG": ("jpg", lambda path: (_noise().save(path), _cut(path, 0.95)), "cannot be read as an image"),
    "most of a GIF": ("gif", lambda path: (_noise().save(path), _cut(path, 0.95)), "cannot be read as an image"),
    "most of a WebP": ("webp", lambda path: (_noise().save(path), _cut(path, 0.95)), "cannot be read as an image"),
    "most of a TIFF": ("tif", lambda path: (_noise().save(path), _cut(path, 0.95)), "cannot be read as an image"),
    "most of a BMP": ("bmp", lambda path: (_noise().save(path), _cut(path, 0.95)), "cannot be read as an image"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_whole_image_is_refused_by_its_name(tmp_path: Path, kind: str) -> None:
    suffix, make, message = REFUSED[kind]
    path = tmp_path / f"a.{suffix}"
    make(path)
    with pytest.raises(InputError, match=rf"a\.{suffix} .*{message}") as told:
        open_image(path)
    assert "\n" not in str(told.value)


def _folder(place: Path, *, split: bool = False) -> Path:
    """Two classes of two images, perhaps as training rows with one image of each beside them."""
    for part, count in {"train": 2, "dev": 1}.items() if split else {".": 2}.items():
        for name in ("cat", "dog"):
            (place / part / name).mkdir(parents=True)
            for number in range(count):
                halves().save(place / part / name / f"{number}.PNG")
    return place


def _read(folder: Path) -> int:
    data = read_data(DataSource(str(folder), eval_data=str(folder), task="image-classification"))
    return len(data.train)


ASTRAY: dict[str, tuple[str, str]] = {
    "notes in a class": ("cat/notes.txt", r"cat/notes\.txt lies in a class but is no image"),
    "a film in a class": ("cat/1.mp4", r"1\.mp4 lies in a class but is no image"),
    "a folder in a class": ("cat/more/1.png", r"cat/more is a folder within a class"),
    "an image without a class": ("1.png", r"1\.png lies beside the folders of classes"),
    "a table beside classes": ("labels.csv", r"labels\.csv lies beside the folders of classes"),
    "an empty class": ("cow/", r"class folder .*cow holds no images"),
    "a class twice": ("cat /1.png", "name the same class 'cat'"),
}


@pytest.mark.parametrize("kind", ASTRAY)
def test_what_lies_among_classes_is_a_class_or_refused(tmp_path: Path, kind: str) -> None:
    folder = _folder(tmp_path)
    name, message = ASTRAY[kind]
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    if name.endswith("/"):
        (folder / name).mkdir()
    else:
        halves().save(folder / name, format="PNG")
    with pytest.raises(InputError, match=message):
        _read(folder)


def test_what_file_managers_leave_is_passed_over(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    for name in (".DS_Store", "cat/._0.png", "cat/Thumbs.db", "dog/desktop.ini", "README.md", "LICENSE"):
        (folder / name).write_bytes(b"\0")
    (folder / ".ipynb_checkpoints").mkdir()
    assert _read(folder) == 4


@pytest.mark.parametrize("name", ["dev", "val", "test"])
def test_folders_beside_the_training_rows_are_splits_or_refused(tmp_path: Path, name: str) -> None:
    folder = _folder(tmp_path, split=True)
    (folder / "dev").rename(folder / name)
    data = read_data(DataSource(str(folder), task="image-classification"))
    assert (len(data.train), len(data.evaluation)) == (4, 2)
    (folder / name).rename(folder / "holdout")
    with pytest.raises(InputError, match=r"holdout lies beside train and would not be read"):
        read_data(DataSource(str(folder), task="image-classification"))


def test_a_header_that_is_wrong_is_told_before_training(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    _huge(folder / "dog" / "9.png")
    with pytest.raises(InputError, match=r"9\.png has more pixels"):
        _read(folder)
