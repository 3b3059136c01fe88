"""What is delivered: files, names, hashes, metadata; and the verb that checks them later."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
from transformers import AutoConfig, AutoTokenizer

from finegates_export import ExportOptions, export, verify
from finegates_export.common.files import write_json
from finegates_export.errors import ChainError, InputError, OutputError
from finegates_export.sources.assemble import assemble, base_of
from finegates_export.sources.run_folder import read_run
from tests.export.compare import NAMES, TOLERANCE, difference, onnx_outputs, torch_outputs
from tests.export.conftest import bundle_info
from tests.tiny import LABELS, LORA, MAX_LENGTH


@pytest.fixture(scope="module")
def run(workshop):
    return workshop.run("coupled", LORA)


@pytest.fixture(scope="module")
def bundle(workshop, run):
    return workshop.bundle(run)


@pytest.fixture(scope="module")
def small(workshop):
    """A run of one layer, for what is exported once more."""
    return workshop.run("coupled", LORA, layers=1)


@pytest.fixture
def copied(bundle, tmp_path):
    """A bundle that a test may spoil."""
    return shutil.copytree(bundle, tmp_path / "copied")


def session_of(file):
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def exported(run, out, **options):
    return export(ExportOptions(ckpt=run, out=out, threads=1, **options))


@pytest.mark.slow
def test_an_earlier_graph_in_the_run_folder_stays_there(small, tmp_path):
    run = shutil.copytree(small, tmp_path / "run")
    for name in ("model.onnx", "model.onnx.data", "index.html"):
        (run / name).write_bytes(b"of another day")
    exported(run, tmp_path / "bundle", torch=True)
    assert (tmp_path / "bundle" / "tokenizer.json").is_file()
    files = [path for path in (tmp_path / "bundle").rglob("*") if path.is_file()]
    assert not [path for path in files if path.read_bytes() == b"of another day"]


def test_every_file_is_listed_with_its_hash(bundle):
    files = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    del files["bundle.json"]
    assert bundle_info(bundle)["files"] == {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    assert set(files) == {
        "model.onnx", "model.onnx.data", "check.safetensors", "export.json", "config.json", "tokenizer.json",
        "tokenizer_config.json", "README.md",
    }  # fmt: skip


def test_bundle_json_tells_what_a_server_needs(bundle, workshop):
    info = bundle_info(bundle)
    assert (info["task"], info["labels"], info["max_length"]) == ("classification", list(LABELS[:3]), MAX_LENGTH)
    assert (info["graph"], info["graphs"], info["target"]) == ("model.onnx", ["model.onnx"], "ort-cpu")
    assert info["base"] == {"name": workshop.base().name, "revision": None, "licence": None}
    assert {"torch", "transformers", "onnxruntime", "finegates-export"} <= set(info["versions"])


def test_config_and_tokenizer_load_in_transformers(bundle, workshop):
    config = AutoConfig.from_pretrained(bundle)
    assert config.id2label == dict(enumerate(LABELS[:3]))
    assert config.label2id == {label: i for i, label in enumerate(LABELS[:3])}
    assert config.architectures == ["BertForSequenceClassification"]
    before = AutoConfig.from_pretrained(workshop.base())
    for name in ("model_type", "hidden_size", "num_hidden_layers", "max_position_embeddings", "vocab_size"):
        assert getattr(config, name) == getattr(before, name)
    ours, theirs = (AutoTokenizer.from_pretrained(folder) for folder in (bundle, workshop.base()))
    assert ours("a great film")["input_ids"] == theirs("a great film")["input_ids"]


def test_inputs_are_int64_and_axes_are_named(bundle):
    session = session_of(bundle / "model.onnx")
    assert {value.name: (value.type, value.shape) for value in session.get_inputs()} == {
        name: ("tensor(int64)", ["batch", "sequence"]) for name in NAMES
    }
    assert [(value.name, value.shape) for value in session.get_outputs()] == [("logits", ["batch", 3])]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 13, 2 * MAX_LENGTH])
def test_any_batch_and_length_runs(bundle, batch, length):
    feed = {name: np.ones((batch, length), np.int64) for name in NAMES}
    logits = session_of(bundle / "model.onnx").run(["logits"], feed)[0]
    assert logits.shape == (batch, 3)
    assert np.isfinite(logits).all()


def test_the_delivered_graph_computes_what_the_gated_model_computes(bundle, run):
    gated = assemble(read_run(run), base_of(read_run(run))).gated
    reference = torch_outputs(gated, gated.model.get_base_model())
    graph = onnx_outputs(bundle / "model.onnx", gated.model.config)
    assert graph.hidden is None
    assert difference(reference, graph) < TOLERANCE


@pytest.mark.slow
def test_a_single_file_carries_what_a_server_needs_as_metadata(small, tmp_path, workshop):
    report = exported(small, tmp_path / "model.onnx", opset=18)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = session_of(tmp_path / "model.onnx")
    assert session.get_modelmeta().custom_metadata_map == {
        "finegates.task": "classification",
        "finegates.labels": json.dumps(list(LABELS[:3])),
        "finegates.max_length": str(MAX_LENGTH),
        "finegates.base": workshop.base(layers=1).name,
        "finegates.removed": f"{report.plan.removed:.6f}",
    }
    assert [value.name for value in session.get_outputs()] == ["logits"]
    opsets = {entry.domain: entry.version for entry in onnx.load(tmp_path / "model.onnx").opset_import}
    assert opsets[""] == 18
    assert report.after.size_bytes == (tmp_path / "model.onnx").stat().st_size


@pytest.mark.slow
def test_graphs_go_under_onnx_where_asked_and_verify_finds_them_there(small, workshop):
    bundle = workshop.bundle(small, onnx_folder=True)
    assert bundle_info(bundle)["graphs"] == ["onnx/model.onnx"]
    assert sorted(path.name for path in bundle.iterdir() if path.is_dir()) == ["onnx"]
    assert "`onnx/model.onnx`" in (bundle / "README.md").read_text(encoding="utf-8")
    assert not (bundle / "model.onnx").exists()
    assert [link.name for link in verify(small, bundle, threads=1)] == ["model.onnx", "texts, as delivered"]


def test_a_plan_alone_writes_nothing(run, tmp_path):
    out = tmp_path / "nothing"
    report = exported(run, out, plan_only=True)
    assert list(tmp_path.iterdir()) == []
    assert report.plan.removed > 0.2
    assert (report.after, report.links) == (None, ())
    assert str(report) == str(report.plan)
    assert export(ExportOptions(ckpt=run, plan_only=True)).plan == report.plan


def test_what_exists_is_replaced_only_where_asked(run, tmp_path):
    (tmp_path / "model.onnx").write_text("precious")
    with pytest.raises(OutputError, match="already exists; pass --overwrite"):
        exported(run, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "precious"


def test_verify_accepts_a_bundle_and_a_graph(run, bundle):
    for what in (bundle, bundle / "model.onnx"):
        link, *texts = verify(run, what, threads=1)
        assert [one.name for one in texts] == (["texts, as delivered"] if what == bundle else [])
        assert (link.name, link.exact, link.agreement) == ("model.onnx", True, 1.0)
        assert link.relative < TOLERANCE


@pytest.mark.parametrize("name", ["model.onnx", "config.json", "tokenizer.json", "README.md"])
def test_verify_refuses_a_changed_or_missing_file_by_name(run, copied, name):
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content + b"\n")
    with pytest.raises(InputError, match=rf"{name} was changed after the export"):
        verify(run, copied)
    (copied / name).unlink()
    with pytest.raises(InputError, match=rf"is incomplete: {name} is missing"):
        verify(run, copied)


def alter_a_weight(file):
    """Scale one column of the last constant matrix."""
    graph = onnx.load(file)
    matrix = [value for value in graph.graph.initializer if len(value.dims) == 2 and value.data_type == 1][-1]
    values = onnx.numpy_helper.to_array(matrix).copy()
    values[:, 0] = 2 * values[:, 0] + 0.1
    matrix.CopyFrom(onnx.numpy_helper.from_array(values, matrix.name))
    onnx.save(graph, file)


def test_verify_refuses_an_altered_weight_even_under_a_new_hash(run, copied):
    alter_a_weight(copied / "model.onnx")
    info = bundle_info(copied)
    info["files"]["model.onnx"] = hashlib.sha256((copied / "model.onnx").read_bytes()).hexdigest()
    write_json(copied / "bundle.json", info)
    with pytest.raises(ChainError, match=r"^model\.onnx differs from the gated model"):
        verify(run, copied, threads=1)


def test_verify_refuses_the_graph_of_another_run(workshop, bundle):
    with pytest.raises(ChainError, match=r"^model\.onnx differs from the gated model"):
        verify(workshop.run("matrix", LORA), bundle, threads=1)


@pytest.mark.parametrize("what", ["nowhere", "folder", "page.md", "empty.onnx"])
def test_verify_refuses_what_is_neither_bundle_nor_graph(run, tmp_path, what):
    (tmp_path / "folder").mkdir()
    (tmp_path / "page.md").write_text("no graph")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(InputError, match=r"neither a bundle nor an ONNX file|is not a bundle|cannot read"):
        verify(run, tmp_path / what)


OTHERS = {
    "task": ({"task": "token-classification"}, "is for the task token-classification, not classification"),
    "a decoder's": (
        {"task": "text-generation", "variant": "llama", "generator": True},
        "is for the task text-generation, not classification",
    ),
    "labels": ({"labels": 2}, "has the labels bad, medium, not bad, medium, nice"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", OTHERS)
def test_verify_refuses_an_export_of_another_task_or_other_labels_by_name(workshop, run, case):
    options, told = OTHERS[case]
    made = workshop.bundle(workshop.run("coupled", **{"layers": 1, **options}))
    for exported in (made, made / "model.onnx"):
        with pytest.raises(InputError, match=rf"model\.onnx {told}, and .* is not what it was made from"):
            verify(run, exported, threads=1)


def test_verify_refuses_a_graph_of_unknown_origin_that_reads_something_else(run, bundle, tmp_path):
    graph = onnx.load(bundle / "model.onnx")
    del graph.metadata_props[:]
    graph.graph.input[0].name = "words"
    for node in graph.graph.node:
        node.input[:] = ["words" if name == NAMES[0] else name for name in node.input]
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(InputError, match="reads words, not input_ids, attention_mask, token_type_ids"):
        verify(run, tmp_path / "model.onnx", threads=1)


def test_the_model_card_tells_what_was_done_and_no_licence_that_nobody_stated(bundle):
    card = (bundle / "README.md").read_text(encoding="utf-8")
    front = card.split("---")[1]
    assert "license" not in front
    assert "licence not stated by its model card" in card
    for said in (
        "ONNX, as delivered",
        "bad, medium, nice",
        "heads: no V/O dim left",
        "from finegates_export import load",
    ):
        assert said in card
    assert f"{bundle_info(bundle)['report']['plan']['removed']:.0%} of the layers' linear weights removed" in card


@pytest.mark.slow
def test_a_stated_licence_is_passed_on(small, tmp_path):
    licensed = shutil.copytree(small, tmp_path / "run")
    info = json.loads((licensed / "run.json").read_text(encoding="utf-8"))
    write_json(licensed / "run.json", {**info, "licence": "apache-2.0"})
    exported(licensed, tmp_path / "bundle")
    card = (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0\n" in card.split("---")[1]
    assert bundle_info(tmp_path / "bundle")["base"]["licence"] == "apache-2.0"
