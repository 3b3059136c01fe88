"""What every file in the repository keeps to, beyond what ruff asks of Python: `make lint`, and before a commit.

python -m tests.tidy            every file that git knows
python -m tests.tidy FILE...    these

No space at the end of a line, one line break at the end of a file, no file so large that it belongs elsewhere, and no
reminder without the number of its issue: `TODO(#12): ...`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
LARGEST = 512 * 1024
"""Bytes."""
REMINDER = re.compile(r"\b(TODO|FIXME)\b(?!\(#\d+\))")
WRITTEN = {".cfg", ".css", ".html", ".js", ".json", ".md", ".mjs", ".py", ".toml", ".txt", ".yaml", ".yml"}
"""Endings of files that people write; what a program wrote keeps its form."""
MEASURED = ("benchmarks/results/",)
"""Reports: written by programs, whatever their ending."""
EXEMPT = ("tests/tidy.py", "tests/test_tidy.py")
"""They spell the words that they look for."""


def complaints(path: str, content: bytes) -> Iterator[str]:
    """What one file does wrong, each with its place.

    Args:
        path: from the root of the repository.
        content: of the file.
    """
    if len(content) > LARGEST:
        yield f"{path}: {len(content)} bytes, more than {LARGEST}"
    if path.startswith(MEASURED) or not (Path(path).suffix in WRITTEN or Path(path).name == "Makefile"):
        return
    text = content.decode("utf-8")
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            yield f"{path}:{number}: space at the end of the line"
        found = REMINDER.search(line)
        if found and path not in EXEMPT:
            yield f"{path}:{number}: {found[0]} without the number of an issue; write {found[0]}(#12)"
    if text and (not text.endswith("\n") or text.endswith("\n\n")):
        yield f"{path}: does not end with one line break"


def tracked() -> list[str]:
    """Every file that git knows."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for path in listed.split("\0") if path and (ROOT / path).is_file()]


def main() -> None:
    """Entry point; exits with 1 where a file does something wrong."""
    found = [line for path in sys.argv[1:] or tracked() for line in complaints(path, (ROOT / path).read_bytes())]
    sys.stdout.writelines(f"{line}\n" for line in found)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
