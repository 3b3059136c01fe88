"""The benchmark of decoders closes what is asked, counts bytes and FLOPs, times a bundle, and says what was missed."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from finegates_export import ExportOptions, export
from finegates_export.costs.timing.fresh_process import run_fresh
from finegates_export.sources.run_folder import read_run
from tests.tiny import tiny_base, tiny_run
from tests.tiny_generator import LAYERS, VOCABULARY, WIDTH, tiny_generator
from tests.trainer.decoders import decoder_base

FOLDER = Path(__file__).parent.parent.parent / "benchmarks" / "decoders"
sys.path.insert(0, str(FOLDER))

import closing  # noqa: E402  # a script, not of a package
import graph_costs  # noqa: E402
import speed_report  # noqa: E402

SPEED = {"load": 1.0, "first token": 0.2, "peak_memory_bytes": 1 << 28}


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_a_share_is_closed_by_what_units_hand_on(tmp_path, share):
    base = decoder_base(tmp_path / "base", "llama", layers=2, intermediate=96)
    weighed = closing.weigh(base, "the film was great and a song told a story . " * 120)
    closing.write_run(weighed, share, tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert run.info.removed == pytest.approx(share, abs=0.01)
    assert run.samples["input_ids"].shape == (closing.SAMPLES, closing.SAMPLE_LENGTH)
    keep = closing.kept_units(weighed, 0.5)
    for layer in (0, 1):
        mask = keep[layer, "ffn"]
        assert weighed.neurons[layer][mask].min() >= weighed.neurons[layer][~mask].max()
        heads = keep[layer, "vo"].reshape(2, -1)
        assert (heads.all(1) == heads.any(1)).all()
        assert heads.any(1).sum() == 1
        assert heads.any(1).argmax() == weighed.groups[layer].argmax()
        assert (keep[layer, "qk"].reshape(2, -1).any(1) == heads.any(1)).all()


def test_bytes_of_a_token_leave_out_tables_that_are_looked_up(tmp_path):
    def graph(head: str) -> Path:
        words = numpy_helper.from_array(np.zeros((50, 4), np.float32), "words")
        other = numpy_helper.from_array(np.zeros((50, 4), np.int8), "other")
        nodes = [helper.make_node("Gather", ["words", "ids"], ["x"]), helper.make_node("Foo", ["x", head], ["y"])]
        made = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [words, other],
        )  # fmt: skip
        onnx.save(helper.make_model(made), tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    assert graph_costs.weight_bytes(graph("other")) == 200
    assert graph_costs.weight_bytes(graph("words")) == 1000


@pytest.mark.slow
def test_flops_and_cache_are_those_of_the_bundle(tmp_path):
    base = tiny_base(tmp_path / "base", "llama", generator=True)
    run = tiny_run(tmp_path / "run", base, "coupled", task="text-generation")
    plan = export(ExportOptions(ckpt=run, out=tmp_path / "bundle", threads=1)).plan
    widths = [
        len(layer.attention.heads) * (layer.attention.qk_width + layer.attention.vo_width) for layer in plan.layers
    ]
    scores = 2 * sum(widths)  # two query heads share a KV head
    flops = 2 * 10 * (plan.kept_weights + 32 * 64 + 10 * scores)
    assert graph_costs.prefill_flops(tmp_path / "bundle", 10) == flops
    assert graph_costs.cache_bytes(tmp_path / "bundle", 10) == 4 * 10 * sum(widths)


def test_a_bundle_is_timed_in_a_fresh_process(tmp_path):
    bundle = tiny_generator(tmp_path / "bundle")
    spec = {"bundle": str(bundle), "form": "float", "threads": 1, "text": "abc"}
    found = run_fresh(FOLDER / "worker.py", spec, tmp_path, "times", "look")
    assert list(found) == ["load", "first token", "peak_memory_bytes"]
    assert min(found.values()) > 0
    assert graph_costs.weight_bytes(bundle / "model.onnx") > 4 * WIDTH * (VOCABULARY + 2 * len(LAYERS) * WIDTH)


def result() -> dict:
    """Of an unpruned model and one that reads half of the bytes, at exactly the speed that they allow."""
    link = {"relative": 1e-6, "hidden_relative": None, "exact": True}
    quantized = {"relative": 0.5, "hidden_relative": None, "exact": False}

    def model(removed: float, part: float) -> dict:
        timed = {"decode": [0.02 * part] * 3, "prefill": {"8": [0.1 * part] * 3}}
        return {
            "removed": removed, "form": "float", "vocabulary": 50, "file_bytes": 10**6,
            "weight_bytes": round(900_000 * part), "cache_bytes": round(100_000 * part),
            "prefill_flops": {"8": round(10**6 * part)}, "processes": [SPEED] * 3, **timed,
        }  # fmt: skip

    export = {
        "seconds": 100.0,
        "load_before": 0.3,
        "peak_memory_bytes": 10**9,
        "removed": 0.4,
        "links": [link, quantized],
    }
    stamp = {"command": "c", "date": "d", "processor": "p", "cores": 2, "threads": 1, "versions": {"numpy": "2"}}
    return {
        "stamp": stamp, "base": "tiny", "base_bytes": 5 * 10**8, "load_before": 0.1, "prompt": 4, "tokens": 3,
        "exports": {"0.4 int8": export}, "models": {"0 float": model(0.0, 1.0), "0.4 float": model(0.4, 0.5)},
        "cuts": {"0.4 cut": {**model(0.4, 0.25), "vocabulary": 20}},
    }  # fmt: skip


def test_exports_are_measured_anew_beside_timings_that_are_kept(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("decoders_run", FOLDER / "run.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    kept = result()
    export = {**kept["exports"]["0.4 int8"], "seconds": 7.0}
    monkeypatch.setattr(script, "measure_exports", lambda *_: {"0.4 int8": export})
    places = ["--base", "base", "--work", str(tmp_path), "--out", str(tmp_path / "report")]
    monkeypatch.setattr(sys, "argv", ["run.py", *places, "--exports-only"])
    with pytest.raises(SystemExit, match=r"exports-only: there is no .*report\.json"):
        script.main()
    (tmp_path / "report.json").write_text(json.dumps(kept), encoding="utf-8")
    script.main()
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert found == {**kept, "exports": {"0.4 int8": export}}
    assert "| 7 | 0.3 |" in capsys.readouterr().out


def test_the_page_says_what_was_reached():
    told = speed_report.markdown(result())
    assert "| 40.0% | float32 | 1 | 0 | 100.0 (100.0 to 100.0) | 2.00 (2.00 to 2.00) | 2.00 | 200 | 160 | 256 |" in told
    assert "| 40.0% | 20 of 50 | 1 | 0 | 200.0 (200.0 to 200.0) | 2.00 (2.00 to 2.00) | 2.00 |" in told
    assert "**missed**" not in told
    assert all(goal.met for goal in speed_report.goals(result()))


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        (lambda one: one["exports"]["0.4 int8"]["links"][0].update(relative=2e-4), "the chain's links in float"),
        (lambda one: one["models"]["0.4 float"].update(decode=[0.0108] * 3), "written tokens/s"),
        (lambda one: one["models"]["0.4 float"].update(prefill={"8": [0.055] * 3}), "prompt of 8"),
        (lambda one: one["exports"]["0.4 int8"].update(seconds=181.0), "an export, int8 or int4 beside it, seconds"),
        (lambda one: one["exports"]["0.4 int8"].update(peak_memory_bytes=21 * 10**8), "sizes of the base"),
    ],
)
def test_a_goal_that_is_missed_is_named(change, missed):
    changed = copy.deepcopy(result())
    change(changed)
    (found,) = [goal.what for goal in speed_report.goals(changed) if not goal.met]
    assert missed in found
    assert speed_report.markdown(changed).count("**missed**") == 1
