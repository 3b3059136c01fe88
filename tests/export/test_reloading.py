"""What is loaded goes to other processes: pickled by name, and usable after a fork."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import pickle
import shutil
import signal

import numpy as np
import pytest

import finegates_export
from finegates_export.errors import InputError, UnsupportedError
from finegates_export.runtime.predictor import Predictor
from tests.export.conftest import bundle_info
from tests.tiers import tiered
from tests.tiny import LORA

TEXTS = ["a lovely film", "the play was awful", ""]
SECONDS = 60
"""After which a child that hangs is a failure."""


@pytest.fixture(scope="module")
def bundle(workshop):
    return workshop.bundle(workshop.run("coupled", LORA))


def scores(predictor, texts=TEXTS):
    return [list(one.scores.values()) for one in predictor.predict(texts)]


def test_a_predictor_is_pickled_with_its_settings(bundle):
    predictor = finegates_export.load(bundle, threads=1, spinning=False, buckets=np.array([8, 16]))
    stored = pickle.dumps(predictor)
    assert len(stored) < 2000
    again = pickle.loads(stored)  # noqa: S301  # made a line before
    assert again.recipe == predictor.recipe
    assert scores(again) == scores(predictor) == scores(copy.copy(predictor))


def test_a_relative_path_is_found_from_another_folder(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(bundle.parent)
    stored = pickle.dumps(finegates_export.load(bundle.name, threads=1))
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(stored).predict(TEXTS)  # noqa: S301  # as above


def test_a_bundle_that_is_gone_or_was_replaced_is_told(bundle, tmp_path):
    copied = shutil.copytree(bundle, tmp_path / "copied")
    stored = pickle.dumps(finegates_export.load(copied, threads=1))
    (copied / "bundle.json").write_text(json.dumps(bundle_info(copied)))
    with pytest.raises(InputError, match="was replaced since"):
        pickle.loads(stored)  # noqa: S301  # as above
    shutil.rmtree(copied)
    with pytest.raises(InputError, match="is not here"):
        pickle.loads(stored)  # noqa: S301  # as above


def test_a_predictor_that_was_put_together_by_hand_says_so(bundle):
    loaded = finegates_export.load(bundle, threads=1)
    made = Predictor(loaded._session, loaded._reader, loaded._decoder, loaded._buckets)
    with pytest.raises(UnsupportedError, match="a Predictor that load did not make cannot be pickled; call load there"):
        pickle.dumps(made)


@pytest.mark.parametrize("method", tiered(["fork", "spawn"], fast=1, default=2))
def test_processes_of_a_pool_predict_the_same(bundle, method):
    predictor = finegates_export.load(bundle, threads=1)
    with multiprocessing.get_context(method).Pool(1) as pool:
        found = pool.apply_async(scores, (predictor,)).get(SECONDS)
    np.testing.assert_allclose(found, scores(predictor), atol=1e-6)


@pytest.mark.exhaustive
def test_joblib_takes_a_predictor(bundle):
    joblib = pytest.importorskip("joblib")
    predictor = finegates_export.load(bundle, threads=1)
    found = joblib.Parallel(n_jobs=2, timeout=SECONDS)(joblib.delayed(scores)(predictor) for _ in range(2))
    np.testing.assert_allclose(found, [scores(predictor)] * 2, atol=1e-6)


def in_a_fork(work):
    """Whether work ends well in a forked child, which is ended itself if it hangs."""
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        os._exit(0 if work() else 1)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_a_fork_after_load_predicts_the_same(bundle, threads):
    predictor = finegates_export.load(bundle, threads=threads)
    before = scores(predictor)
    assert in_a_fork(lambda: np.allclose(scores(predictor), before, atol=1e-6))
    assert in_a_fork(lambda: in_a_fork(lambda: np.allclose(scores(predictor), before, atol=1e-6)))
    assert not in_a_fork(lambda: np.allclose(scores(predictor), np.array(before) + 1))
    assert scores(predictor) == before


def test_a_fork_after_the_bundle_was_replaced_says_so(bundle, tmp_path):
    copied = shutil.copytree(bundle, tmp_path / "copied")
    predictor = finegates_export.load(copied, threads=2)
    os.utime(copied / "model.onnx", ns=(0, 0))

    def refused():
        with pytest.raises(InputError, match="was replaced since it was loaded"):
            predictor.predict(TEXTS)
        return True

    assert in_a_fork(refused)


@pytest.mark.slow
def test_a_generator_goes_along_too(workshop):
    made = workshop.bundle(workshop.run("coupled", task="text-generation", variant="llama", layers=1, generator=True))
    generator = finegates_export.load(made, threads=2)
    before = [one.text for one in generator.generate(["a film"])]
    again = pickle.loads(pickle.dumps(generator))  # noqa: S301  # as above
    assert [one.text for one in again.generate(["a film"])] == before
    assert in_a_fork(lambda: [one.text for one in generator.generate(["a film"])] == before)
