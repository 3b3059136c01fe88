"""Which inputs an engine takes, what a command is told, which graph it takes; no builder is needed for any of it."""

from __future__ import annotations

import json
import sys

import pytest

from finegates_export.common.input_profile import FREE, PROFILES_JSON, Profile
from finegates_export.common.shapes import Shape
from finegates_export.deploy.engines.cli import main
from finegates_export.deploy.engines.options import EngineOptions
from finegates_export.deploy.engines.source import find_source
from finegates_export.errors import InputError
from tests.tiny_models import IMAGE


def run_of(workshop, **options):
    return workshop.run("coupled", layers=1, **options)


def test_sizes_fill_the_free_axes_alone() -> None:
    profile = Profile(Shape(1, 2), Shape(3, 4), Shape(5, 6))
    assert profile.sizes((FREE, FREE)) == ((1, 2), (3, 4), (5, 6))
    assert profile.sizes((FREE, 3, 224, 224)) == ((1, 3, 224, 224), (3, 3, 224, 224), (5, 3, 224, 224))
    assert profile.sizes((7, FREE))[0] == (7, 2)


def test_a_profile_ends_where_the_model_s_texts_do() -> None:
    assert Profile.up_to(32) == Profile(Shape(1, 1), Shape(8, 32), Shape(64, 32))
    assert Profile.up_to(512).usual == Shape(8, 128)


@pytest.mark.parametrize("three", [((2, 2), (1, 2), (4, 4)), ((1, 1), (2, 8), (2, 4))])
def test_a_profile_that_shrinks_is_refused(three) -> None:
    with pytest.raises(ValueError, match="must not shrink"):
        Profile(*(Shape(*sizes) for sizes in three))


def test_a_profile_is_read_as_it_was_written(tmp_path) -> None:
    profile, path = Profile.up_to(77), tmp_path / PROFILES_JSON
    path.write_text(json.dumps(profile.to_json({"input_ids": (FREE, FREE), "attention_mask": (FREE, FREE)})))
    assert Profile.read(path) == profile
    path.write_text('{"input_ids": {"min": [1, 1]}}')
    with pytest.raises(InputError, match="damaged"):
        Profile.read(path)


@pytest.mark.slow
def test_a_bundle_for_tensorrt_has_profiles_and_others_have_none(workshop) -> None:
    run = run_of(workshop)
    bundle = workshop.bundle(run, target="tensorrt", min_agreement=0.0, max_metric_loss=100.0)
    inputs = json.loads((bundle / PROFILES_JSON).read_text())
    assert set(inputs) == {"input_ids", "attention_mask", "token_type_ids"}
    assert inputs["input_ids"]["max"][1] == json.loads((bundle / "bundle.json").read_text())["max_length"]
    assert PROFILES_JSON in json.loads((bundle / "bundle.json").read_text())["files"]
    assert not (workshop.bundle(run) / PROFILES_JSON).exists()


def test_images_keep_their_size(workshop) -> None:
    run = run_of(workshop, variant="vit", task="image-classification")
    bundle = workshop.bundle(run, target="tensorrt", min_agreement=0.0, max_metric_loss=100.0)
    sizes = json.loads((bundle / PROFILES_JSON).read_text())["pixel_values"]
    assert [sizes[name][1:] for name in ("min", "opt", "max")] == [[3, IMAGE, IMAGE]] * 3
    assert [sizes[name][0] for name in ("min", "opt", "max")] == [1, 8, 64]


@pytest.mark.slow
def test_the_source_is_a_checked_bundle_for_tensorrt(workshop, tmp_path) -> None:
    run = run_of(workshop)
    bundle = workshop.bundle(run, target="tensorrt", min_agreement=0.0, max_metric_loss=100.0)
    found = find_source(bundle, quantized=False)
    assert (found.graph, found.folder) == (bundle / "model.onnx", bundle)
    assert find_source(bundle / "model.onnx", quantized=False).folder is None
    with pytest.raises(ValueError, match=r"^quantized: needs the int8 graph of a bundle, but .*model\.onnx is a file"):
        find_source(bundle / "model.onnx", quantized=True)
    with pytest.raises(InputError, match="has no int8 graph"):
        find_source(bundle, quantized=True)
    with pytest.raises(InputError, match=r"exported for ort-cpu.*--target tensorrt"):
        find_source(workshop.bundle(run), quantized=False)
    with pytest.raises(InputError, match="does not exist"):
        find_source(tmp_path / "gone", quantized=False)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"level": 6}, "level: must lie in 0 to 5, got 6"),
        ({"compute_capability": ("8.0",)}, "compute-capability: '8.0'"),
        ({"largest": "64"}, "largest: '64' is not a shape"),
        ({"workspace": -1}, "workspace: must not be negative"),
    ],
)
def test_bad_options_are_named(values, told) -> None:
    with pytest.raises(ValueError, match=told):
        EngineOptions(model="bundle", out="engines", **values)


def test_the_command_says_what_is_missing_in_one_line(workshop, tmp_path, monkeypatch, capsys) -> None:
    bundle = workshop.bundle(run_of(workshop), target="tensorrt", min_agreement=0.0, max_metric_loss=100.0)
    for package in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(sys, "argv", ["finegates-engine", str(bundle), "--out", str(tmp_path / "engines")])
    capsys.readouterr()  # of what made the bundle, where no test before did
    with pytest.raises(SystemExit) as left:
        main()
    told = capsys.readouterr().err
    assert left.value.code == 2
    assert "tensorrt or tensorrt-rtx is not installed. Run: pip install 'finegates-export[tensorrt]'" in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
