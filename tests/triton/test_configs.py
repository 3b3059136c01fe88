"""What a repository holds and says, without a server; its configs by Triton's own schema where tritonclient is."""

from __future__ import annotations

import json
import re
import sys

import onnxruntime
import pytest

from finegates_export import ExportOptions, export
from finegates_export.cli import main
from finegates_export.common.files import sha256_file
from finegates_export.common.input_profile import PROFILES_JSON
from finegates_export.deploy.triton import TritonOptions, write_repository
from finegates_export.deploy.triton.pbtxt import Word, pairs, pbtxt
from finegates_export.errors import InputError, OutputError, UnsupportedError
from finegates_export.graphs.targets import TARGETS
from tests.tiny import MAX_LENGTH
from tests.triton.repositories import repository
from tests.triton.server import need_environment, run_script

LENIENT = {"min_agreement": 0.0, "max_metric_loss": 100.0}
MODELS = ("classification", "classification_tokenizer", "classification_graph", "classification_answer")


@pytest.fixture(scope="module")
def run(workshop):
    return workshop.run("coupled", layers=1)


@pytest.fixture(scope="module")
def bundle(workshop, run):
    return workshop.bundle(run, quantize="int8", **LENIENT)


def parsed(folder, *names):
    """Configs as Triton's schema understands them; skipped where there is no tritonclient."""
    need_environment()
    return json.loads(run_script("parse.py", *(folder / name / "config.pbtxt" for name in names)))


def values(parameters):
    return {name: value["string_value"] for name, value in parameters.items()}


def test_messages_are_written_in_the_text_format() -> None:
    message = {
        "a": 1,
        "b": [1, 2],
        "c": Word("KIND"),
        "d": True,
        "e": None,
        "f": [],
        "g": {},
        "h": pairs({"k": 'q"\\\n'}),
    }
    assert pbtxt(message).split("\n") == [
        "a: 1", "b: [1, 2]", "c: KIND", "d: true", "g {", "}", "h {", '  key: "k"', '  value: "q\\"\\\\\\n"', "}", "",
    ]  # fmt: skip


def test_a_repository_holds_the_bundle_s_graph_and_tokenizer_as_they_are(bundle, tmp_path):
    out = repository(bundle, tmp_path / "repository")
    assert {path.name for path in out.iterdir()} == set(MODELS)
    for source, place in (("model.onnx", "classification_graph"), ("tokenizer.json", "classification_tokenizer")):
        assert sha256_file(bundle / source) == sha256_file(out / place / "1" / source)
    assert (out / "classification" / "1" / "bundle.json").read_bytes() == (bundle / "bundle.json").read_bytes()
    labels = json.loads((bundle / "bundle.json").read_text())["labels"]
    assert (out / "classification_graph" / "labels.txt").read_text().split() == labels


@pytest.mark.slow
def test_weights_beside_a_large_graph_go_with_it(workshop, run, tmp_path, monkeypatch):
    monkeypatch.setattr("finegates_export.graphs.saving.INSIDE_LIMIT", 0)
    export(ExportOptions(ckpt=run, out=tmp_path / "repository", target="triton", threads=1))
    (graph,) = (tmp_path / "repository").rglob("model.onnx")
    assert graph.with_name("model.onnx.data").is_file()
    onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def test_configs_say_what_was_asked_for_in_triton_s_schema(bundle, tmp_path):
    out = repository(
        bundle, tmp_path / "repository", threads=3, instances=2, max_batch=16, preferred_batches=(4,), queue_delay=70
    )
    ensemble, tokenizer, graph, answer = parsed(out, *MODELS)
    assert [one["name"] for one in (ensemble, tokenizer, graph, answer)] == list(MODELS)
    assert {one["max_batch_size"] for one in (ensemble, tokenizer, graph, answer)} == {16}
    assert graph["backend"] == "onnxruntime"
    assert graph["instance_group"] == [{"count": 2, "kind": "KIND_CPU"}]
    assert values(graph["parameters"]) == {"intra_op_thread_count": "3"}
    assert graph["dynamic_batching"] == {"preferred_batch_size": [4], "max_queue_delay_microseconds": "70"}
    assert [one["name"] for one in graph["input"]] == ["input_ids", "attention_mask", "token_type_ids"]
    assert graph["output"] == [
        {"name": "logits", "data_type": "TYPE_FP32", "dims": ["3"], "label_filename": "labels.txt"}
    ]
    assert [step["model_name"] for step in ensemble["ensemble_scheduling"]["step"]] == list(MODELS[1:])
    assert values(tokenizer["parameters"])["lengths"].split(",")[-1] == str(MAX_LENGTH)
    assert len(graph["model_warmup"]) == len({16, MAX_LENGTH})
    assert tokenizer["model_warmup"][0]["inputs"]["text"]["input_data_file"] == "warm-up"


def test_without_warm_up_and_threads_nothing_is_said_of_them(bundle, tmp_path):
    out = repository(bundle, tmp_path / "repository", threads=None, warm_up=False)
    for path in out.glob("*/config.pbtxt"):
        assert "model_warmup" not in path.read_text()
        assert "thread_count" not in path.read_text()
    assert not list(out.glob("*/warmup"))


def test_the_quantized_graph_is_served_where_it_is_asked_for(bundle, tmp_path):
    out = repository(bundle, tmp_path / "repository", form="int8", name="small")
    graphs = {path.name for path in (out / "small_graph" / "1").iterdir()}
    assert graphs == {"model_quantized.onnx"}
    assert 'default_model_filename: "model_quantized.onnx"' in (out / "small_graph" / "config.pbtxt").read_text()
    with pytest.raises(InputError, match="has no int4 graph"):
        repository(bundle, tmp_path / "other", form="int4")


def test_tensorrt_is_told_precision_and_shapes(workshop, run, tmp_path):
    bundle = workshop.bundle(run, target="tensorrt", **LENIENT)
    (graph,) = parsed(repository(bundle, tmp_path / "repository", max_batch=32), MODELS[2])
    assert graph["instance_group"][0]["kind"] == "KIND_GPU"
    (accelerator,) = graph["optimization"]["execution_accelerators"]["gpu_execution_accelerator"]
    assert accelerator["name"] == "tensorrt"
    told = accelerator["parameters"]
    sizes = json.loads((bundle / PROFILES_JSON).read_text())
    assert told["precision_mode"] == "FP16"
    for option, which in (("trt_profile_min_shapes", "min"), ("trt_profile_opt_shapes", "opt")):
        expected = [f"{name}:{'x'.join(map(str, three[which]))}" for name, three in sizes.items()]
        assert told[option].split(",") == expected
    assert told["trt_profile_max_shapes"].split(",")[0] == f"input_ids:32x{MAX_LENGTH}"


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_a_bundle_of_any_target_runs_where_it_was_exported_for(workshop, run, tmp_path, target):
    options = {"quantize": "none", "page": False} if target == "web" else {}
    bundle = workshop.bundle(run, target=target, **options, **LENIENT)
    out = repository(bundle, tmp_path / "repository")
    kinds = re.findall(r"kind: (\w+)", (out / MODELS[2] / "config.pbtxt").read_text())
    assert kinds == ["KIND_GPU" if target in ("ort-cuda", "tensorrt") else "KIND_CPU"]


def test_a_graph_of_onnxruntime_s_operators_is_not_given_to_tensorrt(bundle, tmp_path):
    with pytest.raises(UnsupportedError, match=r"exported for ort-cpu.*--target tensorrt"):
        repository(bundle, tmp_path / "repository", device="tensorrt")
    (graph,) = parsed(repository(bundle, tmp_path / "cuda", device="cuda"), MODELS[2])
    assert graph["instance_group"][0]["kind"] == "KIND_GPU"
    assert "optimization" not in graph


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("token-classification", "words with places in the text"),
        ("question-answering", "words with places in the text"),
        ("embedding", "--pool-in-graph"),
    ],
)
def test_tasks_without_tensors_for_answers_are_refused_before_the_export(
    workshop, tmp_path, monkeypatch, capsys, task, told
):
    run = workshop.run("coupled", layers=1, task=task)
    status, told_by = command(monkeypatch, capsys, "--ckpt", run, "--target", "triton", "--out", tmp_path / "out")
    assert status == 2
    assert told in told_by
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_exports_a_run_into_a_repository(run, bundle, tmp_path, monkeypatch, capsys):
    out = tmp_path / "repository"
    words = ("--ckpt", run, "--target", "triton", "--out", out, "--threads", "1")
    status, told = command(monkeypatch, capsys, *words)
    assert status == 0, told
    of_bundle = repository(bundle, tmp_path / "of-bundle")
    names = sorted(path.relative_to(out) for path in out.rglob("*") if path.name != "bundle.json" and path.is_file())
    assert len(names) > len(MODELS)
    for name in names:
        assert (out / name).read_bytes() == (of_bundle / name).read_bytes(), name
    assert json.loads((out / "classification" / "1" / "bundle.json").read_text())["target"] == "ort-cpu"
    status, told = command(monkeypatch, capsys, *words)
    assert status == 2
    assert "already exists" in told


def test_the_command_makes_a_repository_of_a_bundle(bundle, tmp_path, monkeypatch, capsys):
    out = tmp_path / "repository"
    words = ("triton", "--bundle", bundle, "--out", out, "--preferred-batches", "2,4", "--name", "films")
    status, told = command(monkeypatch, capsys, *words)
    assert status == 0, told
    assert "preferred_batch_size: [2, 4]" in (out / "films_graph" / "config.pbtxt").read_text()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": "a/b"}, "name: 'a/b' may contain only"),
        ({"name": ".."}, r"name: '\.\.' may contain only .* no leading dot"),
        ({"max_batch": 4}, "preferred-batches: must lie in 1 to 4, got 8, 32"),
        ({"instances": 0}, "instances: must be positive, got 0"),
        ({"threads": 0}, "threads: must be positive, got 0"),
        ({"queue_delay": -1}, "queue-delay: must not be negative"),
        ({"device": "tpu"}, "device: 'tpu' is not one of auto, cpu, cuda, tensorrt"),
        ({"form": "int2"}, "form: 'int2'"),
    ],
)
def test_bad_options_are_named(options, told):
    with pytest.raises(ValueError, match=told):
        TritonOptions(bundle="bundle", out="repository", **options)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--onnx-folder",), "onnx-folder: applies to a bundle, but --target triton writes none"),
        (("--torch",), "torch: applies to a bundle, but --target triton writes none"),
    ],
)
def test_what_a_repository_does_not_hold_is_refused(tmp_path, monkeypatch, capsys, words, told):
    status, said = command(
        monkeypatch, capsys, "--ckpt", "run", "--target", "triton", "--out", tmp_path / "out", *words
    )
    assert (status, told in said) == (2, True)
    status, said = command(monkeypatch, capsys, "--ckpt", "run", "--target", "triton", "--out", tmp_path / "out.onnx")
    assert (status, "triton writes a folder" in said) == (2, True)


def test_nothing_is_written_over_unless_asked(bundle, tmp_path):
    out = repository(bundle, tmp_path / "repository")
    with pytest.raises(OutputError, match="already exists"):
        repository(bundle, out)
    write_repository(TritonOptions(bundle=bundle, out=out, overwrite=True, name="other"))
    assert {path.name for path in out.iterdir()} == {name.replace("classification", "other") for name in MODELS}


def command(monkeypatch, capsys, *words):
    """Exit status of `finegates-export`, and what it said."""
    monkeypatch.setattr(sys, "argv", ["finegates-export", *map(str, words)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0), capsys.readouterr().err
    return 0, capsys.readouterr().err
