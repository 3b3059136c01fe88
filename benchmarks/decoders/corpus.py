"""A text to train small language models on: the documentation of Django 5.2, as its source distribution carries it.

It is English prose on one subject, in reStructuredText, under the licence of Django (BSD-3-Clause, (c) Django Software
Foundation and individual contributors), which is laid out beside it. Documents are the guides, how-tos, tutorials and
reference pages; release notes are left out. A document is training, dev or test text by a hash of its path alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

DEMO = Path(__file__).resolve().parents[1] / "demo"
sys.path.insert(0, str(DEMO))

from fetch import download  # noqa: E402  # lies beside the demo

from finegates_export.common.files import staged_folder  # noqa: E402
from finegates_export.errors import FineGatesError, InputError  # noqa: E402

SDIST = "Django-5.2.tar.gz"
SDIST_SHA256 = "1a47f7a7a3d43ce64570d350e008d2949abe8c7e21737b351b6a1611277c6d89"
ROOT = "Django-5.2"
SECTIONS = ("faq", "howto", "intro", "ref", "topics")
LICENCE = "LICENSE"
SHORTEST = 1000
"""Characters; shorter pages are lists of links."""
DEV_SHARE, TEST_SHARE = 0.03, 0.06


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for train.jsonl, dev.jsonl and test.jsonl")
    folder = parser.parse_args().out
    try:
        if not folder.exists():
            sdist = download("django==5.2", SDIST, SDIST_SHA256, folder.parent / "downloads", "--no-binary=:all:")
            write_corpus(sdist, folder)
    except FineGatesError as error:
        sys.exit(str(error))


def write_corpus(sdist: Path, folder: Path) -> None:
    """Write the splits as JSONL with the columns `name` and `text`, and the licence.

    Raises:
        InputError: the distribution lacks its licence.
    """
    splits: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for name, text in read_documents(sdist):
        splits[split_of(name)].append(json.dumps({"name": name, "text": text}, ensure_ascii=False) + "\n")
    with tarfile.open(sdist) as archive, staged_folder(folder, overwrite=False) as stage:
        licence = archive.extractfile(f"{ROOT}/{LICENCE}")
        if licence is None:
            raise InputError(f"{sdist} holds no {LICENCE}")
        (stage / LICENCE).write_bytes(licence.read())
        for split, lines in splits.items():
            (stage / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def read_documents(sdist: Path) -> Iterator[tuple[str, str]]:
    """Path below docs/ and text of every page, in the order of their paths."""
    with tarfile.open(sdist) as archive:
        members = {member.name.removeprefix(f"{ROOT}/docs/"): member for member in archive.getmembers()}
        for name, member in sorted(members.items()):
            file = archive.extractfile(member) if name.endswith(".txt") else None
            if file is None or name.split("/")[0] not in SECTIONS:
                continue
            text = file.read().decode("utf-8").strip()
            if len(text) >= SHORTEST:
                yield name, text


def split_of(name: str) -> str:
    """The split that a document belongs to."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    if share < TEST_SHARE:
        return "test"
    return "dev" if share < TEST_SHARE + DEV_SHARE else "train"


if __name__ == "__main__":
    main()
