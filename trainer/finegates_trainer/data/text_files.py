"""Text from files in the encodings that spreadsheets and shells write; anything else is refused by its line."""

from __future__ import annotations

import codecs
from pathlib import Path

from finegates_export.errors import InputError

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks, and the encodings that they announce; a file without one is UTF-8."""
MARK = "\ufeff"
"""A byte order mark as a character."""


def read_text(path: Path, most: int | None = None) -> str:
    """A file's text without byte order marks; ends of lines stay as they are.

    Args:
        path: the file.
        most: read this many bytes and keep whole lines; None reads all.

    Raises:
        InputError: it is binary, not in its encoding, or two files in one; the message names the first wrong
            line.
    """
    with path.open("rb") as file:
        content = file.read(most)
    mark, encoding = next(((mark, name) for mark, name in MARKS if content.startswith(mark)), (b"", "utf-8"))
    content = content.removeprefix(mark)
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(content, final=most is None).lstrip(MARK)
    except UnicodeDecodeError as error:
        line = content[: error.start].decode(encoding, "replace").count("\n") + 1
        raise InputError(
            f"{path} line {line} is not {encoding.upper()} (byte 0x{content[error.start]:02x}); save the file as UTF-8"
        ) from error
    nothing = text.find("\0")
    if nothing >= 0:
        line = text.count("\n", 0, nothing) + 1
        raise InputError(
            f"{path} line {line} has a zero byte, so the file is binary or in another encoding; save it as UTF-8 text"
        )
    inside = text.find(f"\n{MARK}")
    if inside >= 0:
        line = text.count("\n", 0, inside) + 2
        raise InputError(
            f"{path} line {line} begins with a byte order mark, so that another file begins there; join files without "
            "their marks and headers"
        )
    return text if most is None else text[: text.rfind("\n") + 1]


def read_lines(path: Path, most: int | None = None) -> str:
    """`read_text` with every end of line as a line feed."""
    return read_text(path, most).replace("\r\n", "\n").replace("\r", "\n")
