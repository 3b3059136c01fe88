"""The text for language models: which pages of a distribution it takes, and that a page's split is the page's alone."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path

import pytest

from finegates_export.errors import OutputError

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks" / "decoders"))

import corpus  # a script, not of a package

LONG = "Models describe data.\n\n\nEvery field is a column.\n" * 40


def write_sdist(path: Path, pages: list[str]) -> Path:
    files = {f"docs/{name}": LONG + name for name in pages} | {"LICENSE": "terms", "docs/topics/short.txt": "links"}
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{corpus.ROOT}/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def split(folder: Path) -> dict[str, list[str]]:
    files = {name: folder / f"{name}.jsonl" for name in ("train", "dev", "test")}
    lines = {name: file.read_text(encoding="utf-8").splitlines() for name, file in files.items()}
    return {name: [json.loads(line)["name"] for line in own] for name, own in lines.items()}


def test_guides_are_split_by_their_path_alone(tmp_path: Path) -> None:
    pages = [f"topics/page-{number:03}.txt" for number in range(200)]
    others = ["releases/5.2.txt", "topics/picture.png", "conf.py"]
    sdist = write_sdist(tmp_path / "one.tar.gz", pages + others)
    corpus.write_corpus(sdist, tmp_path / "one")
    corpus.write_corpus(write_sdist(tmp_path / "two.tar.gz", pages[::-1][:150]), tmp_path / "two")
    one, two = split(tmp_path / "one"), split(tmp_path / "two")
    assert sorted(name for names in one.values() for name in names) == pages
    assert all(len(one[name]) > 0 for name in one)
    assert all(set(two[name]) <= set(one[name]) for name in two)
    first = json.loads((tmp_path / "one" / "train.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first["text"] == LONG + first["name"]
    assert (tmp_path / "one" / "LICENSE").read_text(encoding="utf-8") == "terms"
    with pytest.raises(OutputError):
        corpus.write_corpus(sdist, tmp_path / "one")
