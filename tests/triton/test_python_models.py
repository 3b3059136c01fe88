"""What the tokenizer of a repository gives the graph, without a server: the backend's own module is stood in for."""

from __future__ import annotations

import importlib.util
import json
import sys
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from finegates_export import load
from finegates_export.common.files import sha256_file, write_json
from finegates_export.deploy.triton import TritonOptions, configs
from finegates_export.deploy.triton.served import read_served
from tests.export.conftest import bundle_info
from tests.tiny import labelled_texts
from tests.triton.repositories import repository

TEXTS = [text for text, _ in labelled_texts(6)]


class Tensor:
    """As the backend has it."""

    def __init__(self, name, values):
        self.name, self.values = name, values

    def as_numpy(self):
        return self.values


BACKEND = SimpleNamespace(
    Tensor=Tensor,
    TritonError=str,
    InferenceResponse=lambda tensors=(), error=None: SimpleNamespace(tensors=tensors, error=error),
    get_input_tensor_by_name=lambda request, name: Tensor(name, request[name]),
)


@pytest.fixture
def answered(monkeypatch, tmp_path):
    """The tokenizer's answers to requests, by a bundle's repository."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", BACKEND)

    def answer(bundle, *requests):
        folder = repository(bundle, tmp_path / "repository") / "classification_tokenizer"
        spec = importlib.util.spec_from_file_location("model", folder / "1" / "model.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        said = configs.tokenizer_config(read_served(TritonOptions(bundle=bundle, out=tmp_path / "none")))
        config = {
            "parameters": {one["key"]: one["value"] for one in said["parameters"]},
            "output": [{"name": one["name"]} for one in said["output"]],
        }
        model = module.TritonPythonModel()
        model.initialize({"model_config": json.dumps(config), "model_repository": str(folder), "model_version": "1"})
        return model.execute([{"text": rows} for rows in requests])

    return answer


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["bert", "gpt2"])
def test_a_text_without_a_token_is_read_as_the_runtime_reads_it(workshop, tmp_path, answered, variant):
    made = workshop.bundle(workshop.run("coupled", variant=variant, layers=1))
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in made.iterdir():
        (bare / file.name).write_bytes(file.read_bytes())
    tokenizer = json.loads((bare / "tokenizer.json").read_text())
    write_json(bare / "tokenizer.json", {**tokenizer, "post_processor": None})
    info = bundle_info(bare)
    info["files"]["tokenizer.json"] = sha256_file(bare / "tokenizer.json")
    write_json(bare / "bundle.json", info)

    texts = ["", *TEXTS]
    (answer,) = answered(bare, np.array([[text.encode()] for text in texts], np.object_))
    session = onnxruntime.InferenceSession(bare / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {tensor.name: tensor.values for tensor in answer.tensors})
    np.testing.assert_allclose(found, load(bare, threads=1).logits(texts), atol=1e-5)


def test_a_request_that_cannot_be_read_leaves_the_others_theirs(workshop, answered):
    bundle = workshop.bundle(workshop.run("coupled", layers=1))
    given = ([[b"a", b"b", b"c"]], np.zeros((0, 1)), [[b"\xff"]], [[b"a film"]])
    *refused, answer = answered(bundle, *(np.array(rows, np.object_) for rows in given))
    told = ("text has the shape [1, 3]; ", "text has the shape [0, 1]; ", "text is not UTF-8: ")
    assert [one.error.startswith(start) for one, start in zip(refused, told, strict=True)] == [True] * 3
    assert answer.error is None
    assert answer.tensors[0].values.shape == (1, 16)
