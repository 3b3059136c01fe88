"""A bundle says at its first load on a machine whether onnxruntime computes there what it computed at the export."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import onnxruntime
import pytest

import finegates_export
from finegates_export.errors import InputError
from finegates_export.runtime import check_rows
from finegates_export.runtime.versions import check_version
from tests.export.conftest import bundle_info
from tests.export.test_closed_bundle import rehash
from tests.tiers import tiered
from tests.tiny import LORA

INT8 = {"quantize": "int8", "min_agreement": 0.8, "max_metric_loss": 20.0}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, in which nothing has passed yet."""
    monkeypatch.setenv("FINEGATES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "checked"


@pytest.fixture(scope="module")
def bundle(workshop):
    return workshop.bundle(workshop.run("coupled", LORA), **INT8)


def wrong(session, inputs):
    """A kernel that is slightly wrong: in the second row alone."""
    found = RIGHT(session, inputs)
    for value in found.values():
        value[1] += 0.2 * np.abs(value).max()
    return found


RIGHT = check_rows.answers


@pytest.mark.parametrize("form", ["float", "int8"])
def test_a_wrong_kernel_is_told_at_the_first_load(bundle, monkeypatch, cache, form):
    monkeypatch.setattr(check_rows, "answers", wrong)
    told = (
        rf"onnxruntime {onnxruntime.__version__} computes the {form} graph .* logits of its check rows is off by 0\.2"
    )
    for _ in range(2):
        with pytest.raises(InputError, match=told):
            finegates_export.load(bundle, form=form, threads=1)
    assert not cache.exists()
    assert finegates_export.load(bundle, form=form, threads=1, check=False).labels


def test_what_passed_is_not_run_again_until_something_changes(bundle, monkeypatch, cache):
    calls = []
    monkeypatch.setattr(check_rows, "answers", lambda *given: calls.append(given) or RIGHT(*given))
    for _ in range(3):
        finegates_export.load(bundle, threads=1)
    assert len(calls) == 1
    assert len(list(cache.iterdir())) == 1
    finegates_export.load(bundle, form="int8", threads=1)
    assert len(calls) == 2
    monkeypatch.setattr(onnxruntime, "__version__", "99.0.0")
    finegates_export.load(bundle, threads=1)
    monkeypatch.setattr(check_rows, "processor_features", lambda: "another machine")
    finegates_export.load(bundle, threads=1)
    assert len(calls) == 4


def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(bundle, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FINEGATES_CACHE", str(tmp_path / "file"))
    assert finegates_export.load(bundle, threads=1).predict(["a film"])


def test_a_bundle_without_rows_loads(bundle, tmp_path):
    copied = shutil.copytree(bundle, tmp_path / "copied")
    (copied / "check.safetensors").unlink()
    rehash(copied, check=None)
    assert finegates_export.load(copied, threads=1).predict(["a film"])


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}", b"\xff" * 64])
def test_damaged_rows_are_one_error(bundle, tmp_path, content):
    copied = shutil.copytree(bundle, tmp_path / "copied")
    (copied / "check.safetensors").write_bytes(content)
    rehash(copied)
    with pytest.raises(InputError, match=r"check\.safetensors"):
        finegates_export.load(copied, threads=1)


def test_a_weight_that_changed_is_told_by_the_rows(bundle, tmp_path):
    copied = shutil.copytree(bundle, tmp_path / "copied")
    model = onnx.load(copied / "model.onnx")
    tensor = [one for one in model.graph.initializer if one.data_type == 1 and len(one.dims) == 2][-1]
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[:, 0] *= 1.5
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, copied / "model.onnx")
    rehash(copied)
    with pytest.raises(InputError, match="otherwise on this machine"):
        finegates_export.load(copied, threads=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "variant"),
    tiered(
        [
            ("text-generation", "llama"), ("embedding", "bert"), ("token-classification", "distilbert"),
            ("question-answering", "bert"), ("image-classification", "vit"), ("classification", "gpt2"),
        ],
        default=1,
    ),
)  # fmt: skip
def test_every_task_has_rows_that_hold_here(workshop, monkeypatch, task, variant):
    generator = task == "text-generation" or None
    run = workshop.run("coupled", task=task, variant=variant, layers=1, generator=generator)
    made = workshop.bundle(run)
    assert bundle_info(made)["check"]["tolerances"] == {"float": check_rows.TOLERANCES["float"]}
    assert (made / "check.safetensors").stat().st_size < 64_000
    finegates_export.load(made, threads=1)
    monkeypatch.setattr(check_rows, "answers", lambda *given: {k: v + 1 for k, v in RIGHT(*given).items()})
    monkeypatch.setattr(check_rows, "processor_features", lambda: "another machine")
    with pytest.raises(InputError, match="otherwise on this machine"):
        finegates_export.load(made, threads=1)


@pytest.mark.parametrize("version", ["1.20.1", "1.23.1", "0.5", "1.21.0.dev20250101"])
def test_an_onnxruntime_with_a_known_fault_is_refused_by_both_versions(bundle, monkeypatch, version):
    monkeypatch.setattr(onnxruntime, "__version__", version)
    proven = bundle_info(bundle)["versions"]["onnxruntime"]
    with pytest.raises(
        InputError, match=rf"onnxruntime {version} is too old for this bundle, .* with {proven}: .*1\.23\.2"
    ):
        finegates_export.load(bundle, threads=1)


@pytest.mark.parametrize("version", ["1.23.2", "1.32.0", "2.0", "1.24.0+own", "of my own"])
def test_newer_versions_and_builds_without_a_number_are_left_to_the_rows(version):
    check_version(version, {})
