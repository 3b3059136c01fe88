"""`load` opens what `bundle.json` lists and nothing else; whatever a stranger writes into a bundle is one error."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import finegates_export
from finegates_export.common.files import sha256_file, sha256_tree
from finegates_export.errors import FineGatesError, InputError
from finegates_export.runtime.bundle_fields import is_inside
from finegates_export.runtime.graph_references import external_files
from tests.export.conftest import bundle_info
from tests.tiny import LORA

DEEP = '{"a": ' + "[" * 200_000 + "]" * 200_000 + "}"


@pytest.fixture(scope="module")
def bundle(workshop):
    return workshop.bundle(workshop.run("coupled", LORA))


@pytest.fixture
def copied(bundle, tmp_path):
    """A bundle that a test may spoil."""
    return shutil.copytree(bundle, tmp_path / "copied")


def say(folder, **fields):
    """Write other fields into `bundle.json`, which nobody signed."""
    (folder / "bundle.json").write_text(json.dumps({**bundle_info(folder), **fields}))


def rehash(folder, **fields):
    """Have `bundle.json` list the files as they are now."""
    say(folder, **fields, files=sha256_tree(folder, leave_out=("bundle.json",)))


def refused(folder, told, texts=None):
    """The one line in which a bundle is refused, at load or at the first call."""
    with pytest.raises(FineGatesError, match=told) as caught:
        finegates_export.load(folder, threads=1, check=False).predict(texts or ["a film", ("a", "b " * 500)])
    assert "\n" not in str(caught.value)


def move_weights(folder, location, tensors=lambda graph: graph.initializer):
    """Put the largest tensor of a graph into another file, as external data."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    tensor = max(tensors(model.graph), key=lambda one: len(one.raw_data))
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", str(size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return size


def leave_out_the_graph(folder):
    files = bundle_info(folder)["files"]
    del files["model.onnx"]
    say(folder, files=files)


def link_a_file(folder, name="model.onnx"):
    outside = folder.parent / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)


def link_a_folder(folder):
    outside = shutil.copytree(folder, folder.parent / "elsewhere")
    (folder / "onnx").symlink_to(outside)
    files = bundle_info(folder)["files"]
    say(
        folder,
        graphs=["onnx/model.onnx"],
        files={**files, **{f"onnx/{name}": digest for name, digest in files.items()}},
    )


def make_a_pipe(folder):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def weights_in(location):
    """A graph whose weights are in a file of that name, which is there."""

    def change(folder):
        size = move_weights(folder, location)
        place = folder / location
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(bytes(size))
        say(folder, files={**bundle_info(folder)["files"], "model.onnx": sha256_file(folder / "model.onnx")})

    return change


def weights_at_an_address(folder):
    """onnxruntime's own mark of weights in memory, here as a listed path."""
    weights_in("*/_ORT_MEM_ADDR_/*")(folder)
    rehash(folder)


DOORS = {
    "a graph that is not listed": (leave_out_the_graph, r"'model\.onnx' of graphs is not listed"),
    "a graph outside": (lambda folder: say(folder, graphs=["../model.onnx"]), r"'\.\./model\.onnx' is no path in"),
    "a graph by its root": (lambda folder: say(folder, graphs=["/etc/model.onnx"]), "'/etc/model.onnx' is no path in"),
    "a linked graph": (link_a_file, r"model\.onnx is a link"),
    "a linked tokenizer": (lambda folder: link_a_file(folder, "tokenizer.json"), r"tokenizer\.json is a link"),
    "a linked record": (lambda folder: link_a_file(folder, "bundle.json"), r"bundle\.json is a link"),
    "a linked folder": (link_a_folder, "onnx is a link"),
    "a pipe": (make_a_pipe, r"config\.json is missing"),
    "weights that are not listed": (
        weights_in("weights.bin"),
        r"weights in 'weights\.bin', which bundle\.json does not",
    ),
    "weights outside": (weights_in("../weights.bin"), r"weights in '\.\./weights\.bin', which"),
    "weights at an address": (weights_at_an_address, r"weights in '\*/_ORT_MEM_ADDR_/\*', which"),
    "a template beside": (
        lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"),
        r"chat_template\.jinja is not among the files",
    ),
    "settings beside": (
        lambda folder: (folder / "generation_config.json").write_text("{}"),
        r"generation_config\.json is not among the files",
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_nothing_is_opened_that_is_not_listed_and_no_link_is_followed(copied, door):
    change, told = DOORS[door]
    change(copied)
    refused(copied, told)


def test_what_nobody_reads_may_lie_beside_and_listed_weights_are_read(copied):
    before = finegates_export.load(copied, threads=1).predict(["a film"])[0]
    (copied / "notes.txt").write_text("mine")
    model = onnx.load(copied / "model.onnx")
    (copied / "model.onnx.data").unlink()
    onnx.save(model, copied / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=512)
    rehash(copied)
    assert external_files(copied / "model.onnx") == {"model.onnx.data"}
    assert finegates_export.load(copied, threads=1).predict(["a film"])[0] == before


@pytest.mark.parametrize("name", ["", ".", "..", "/a", "a/../b", "./a", "a//b", "a/", "a\\b", "C:a", "a\0b"])
def test_names_that_are_no_plain_path_inside_are_known(name):
    assert not is_inside(name)
    assert is_inside("onnx/model.onnx")


def nested_tensor(kind):
    """A model whose only external tensor is in a subgraph, a function, a sparse tensor or an attribute."""
    tensor = TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "secret"
    inner = onnx.helper.make_graph([], "inner", [], [], initializer=[tensor])
    attribute = onnx.helper.make_attribute
    if kind == "subgraph":
        node = onnx.helper.make_node("If", ["c"], ["y"])
        node.attribute.append(attribute("then_branch", inner))
    else:
        node = onnx.helper.make_node("Constant", [], ["y"])
        node.attribute.append(attribute("value", tensor))
    model = onnx.helper.make_model(onnx.helper.make_graph([] if kind == "function" else [node], "g", [], []))
    if kind == "function":
        model.functions.append(onnx.helper.make_function("d", "f", [], ["y"], [node], model.opset_import))
    return model


@pytest.mark.parametrize("kind", ["subgraph", "function", "attribute"])
def test_a_tensor_elsewhere_is_found_wherever_it_hangs(tmp_path, kind):
    (tmp_path / "model.onnx").write_bytes(nested_tensor(kind).SerializeToString())
    assert external_files(tmp_path / "model.onnx") == {"secret"}


@pytest.mark.parametrize("start", [b"\x0f", b"\x3a\xff\xff\x03", b"\x08" + b"\xff" * 20])
def test_bytes_that_are_no_graph_are_one_error(tmp_path, start):
    (tmp_path / "model.onnx").write_bytes(start + b"location")
    with pytest.raises(InputError, match="cannot be read as a graph"):
        external_files(tmp_path / "model.onnx")


FIELDS = {
    "max_length": [float("nan"), "32", -5, 10**6, True, None, [3], 1],
    "labels": [["a"], None, "abc", ["a", "a", "b"], [1, 2, 3], {"a": 1}, []],
    "task": [["x"], None, 3, "question-answering", "token-classification", "image-classification", "text-generation"],
    "graphs": [None, [5], [], "model.onnx", {"a": 1}],
    "vocabulary": ["64", -1, 3, 1.5],
    "files": [None, [], {"model.onnx": 5}, {"model.onnx": "ff"}],
    "text": [[], {"max_length": "3"}, {"max_length": 8, "side": 1}, {"max_length": 2**40}],
    "check": [[], {"file": "x"}, {"file": "check.safetensors", "tolerances": {"float": 9.0}}],
    "schema_version": [99, "1", None],
    "versions": [[], {"onnxruntime": 1}],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in FIELDS.items() for value in values])
def test_a_field_of_another_type_or_that_does_not_fit_is_one_error(copied, field, value):
    say(copied, **{field: value})
    with pytest.raises(FineGatesError) as caught:
        finegates_export.load(copied, threads=1).predict([("a", "b " * 500)])
    assert "\n" not in str(caught.value)


CONTENTS = {
    "bundle.json": ["", "[]", "{", DEEP, "\ufeff{}", '{"a": ' + "9" * 5000 + "}"],
    "tokenizer.json": ["", "{}", "[]", DEEP, '{"model": {"type": "WordPiece", "vocab": {}}}'],
    "tokenizer_config.json": ["{", "[]", DEEP],
    "config.json": ["", "[1]", DEEP],
}


@pytest.mark.parametrize(("name", "content"), [(name, one) for name, several in CONTENTS.items() for one in several])
def test_a_damaged_file_under_a_right_hash_is_one_error(copied, name, content):
    (copied / name).write_text(content)
    if name != "bundle.json":
        rehash(copied)
    refused(copied, r"bundle\.json|tokenizer|config\.json")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_an_error_and_no_label(copied, value):
    model = onnx.load(copied / "model.onnx")
    tensor = [one for one in model.graph.initializer if one.data_type == 1 and len(one.dims) == 2][-1]
    whole = np.full(tuple(tensor.dims), value, np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(whole, tensor.name))
    onnx.save(model, copied / "model.onnx")
    rehash(copied)
    refused(copied, "input 0: the model answers with logits that are no numbers", ["a film"])
