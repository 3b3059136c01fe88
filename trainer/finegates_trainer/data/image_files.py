"""The one way to open an image: as a viewer shows it, in 8 bits a channel, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from finegates_export.errors import InputError, missing_extra

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF")
"""Formats that are read, whatever a file is called; Pillow would start other programs for some."""
FIRST_IS_WHOLE = "MPO"
"""Cameras' JPEG files with a second view: the first frame is the picture."""
GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
UNSCALED = ("I", "F")
"""Grey in 32 bits: no one says which value is white."""
EIGHT_BITS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
"""Modes that Pillow itself makes RGB."""
WHITE_IS_ZERO, PHOTOMETRIC = 0, 262
"""TIFF: the field that says which value is black, and its value for negatives."""
OPAQUE = 255


def open_image(path: Path) -> Any:
    """An image file as a Pillow image of mode RGB, turned as its EXIF orientation says.

    Grey in 16 bits keeps its upper 8. Palettes, CMYK and black and white become RGB. EXIF data that are damaged turn
    nothing.

    Raises:
        InputError: it is no image, damaged, animated, partly transparent, grey in 32 bits, or of more pixels than
            Pillow opens.
        MissingExtraError: Pillow is not installed.
    """
    image = _opened(path)
    try:
        with image:
            return _in_rgb(image, path)
    except InputError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        raise _unreadable(path, error) from error


def check_image(path: Path) -> None:
    """Refuse what `open_image` refuses, as far as a file's header shows it.

    Raises:
        InputError: see `open_image`.
        MissingExtraError: Pillow is not installed.
    """
    _opened(path).close()


def _opened(path: Path) -> Any:
    """The image, not decoded yet."""
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_extra("PIL", "train") from error
    if not path.is_file():
        raise InputError(f"{path} is no file; remove it, or the link that leads nowhere")
    try:
        image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} has more pixels than Pillow opens ({error}); scale it down or remove it") from error
    except Exception as error:  # see `open_image`
        raise _unreadable(path, error) from error
    refusal = _refusal(image)
    if refusal:
        image.close()
        raise InputError(f"{path} {refusal}")
    return image


def _refusal(image: Any) -> str | None:
    """Why an image's header does not say what it looks like."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != FIRST_IS_WHOLE:
        return f"has {frames} frames or pages, but one image is expected; save the one that shows its class"
    if image.mode in UNSCALED:
        return f"is grey in 32 bits (Pillow's mode {image.mode}), of unknown range; scale it to 8 or 16 bits"
    if image.mode not in (*EIGHT_BITS, *GREY_16):
        return f"has colours in Pillow's mode {image.mode}, which is not read; save it as RGB"
    if image.mode in GREY_16 and getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:
        return "is a negative in 16 bits (white is zero); save it with black as zero"
    return None


def _in_rgb(image: Any, path: Path) -> Any:
    from PIL import Image, ImageOps

    turned = ImageOps.exif_transpose(image)
    if turned.mode in GREY_16:
        grey = np.asarray(turned).astype(np.uint16)
        shines = bool((grey == turned.info.get("transparency", -1)).any())
        turned = Image.fromarray((grey >> 8).astype(np.uint8))
    else:
        shines = turned.has_transparency_data and bool(np.asarray(turned.convert("RGBA"))[..., 3].min() < OPAQUE)
    if shines:
        raise InputError(f"{path} is partly transparent, and what shines through is unknown; put it on a background")
    return turned.convert("RGB")


def _unreadable(path: Path, error: Exception) -> InputError:
    told = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{path} cannot be read as an image ({told}); repair or remove it")
