"""A decoder whose LM head is in int8 too, stored once with the embeddings where both are one matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import finegates_export
from finegates_export import ExportOptions, export, verify
from finegates_export.common.graph_forms import GRAPH_FILES
from finegates_export.errors import UnsupportedError
from finegates_export.verification.cached_forms import cached_onnx_form
from finegates_export.verification.link import Tolerances
from finegates_export.verification.prompts import left_padded
from tests.export.conftest import bundle_info
from tests.tiers import tiered

LENIENT = {"min_agreement": 0.5, "max_metric_loss": 100.0}
"""A tiny random model decides by a hair."""
WORDS = 64


@pytest.fixture(scope="module", params=tiered(["llama", "qwen2"], default=("qwen2",)), ids=["untied", "tied"])
def run(workshop: Any, request: pytest.FixtureRequest) -> Any:
    return workshop.run("coupled", task="text-generation", variant=request.param, generator=True)


def tables(path: Any) -> list[Any]:
    """Matrices with a row or a column for every token."""
    graph = onnx.load(path).graph
    inside = {name for node in graph.node if node.name.startswith(("lm_head", "node_embedding")) for name in node.input}
    looked_up = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    tensors = [tensor for tensor in graph.initializer if tensor.name in inside | looked_up]
    return [tensor for tensor in tensors if len(tensor.dims) == 2 and WORDS in tensor.dims]


def is_tied(request: pytest.FixtureRequest) -> bool:
    return "untied" not in request.node.callspec.id


def test_the_head_is_in_int8_and_stored_once_with_the_embeddings(
    workshop: Any, run: Any, request: pytest.FixtureRequest
) -> None:
    file = GRAPH_FILES["int8"]
    plain, made = (workshop.bundle(run, quantize="int8", quantize_head=head, **LENIENT) for head in (False, True))
    integer, real = onnx.TensorProto.INT8, onnx.TensorProto.FLOAT
    assert sorted(tensor.data_type for tensor in tables(made / file)) == (
        [integer] if is_tied(request) else [real, integer]
    )
    assert (made / file).stat().st_size < (plain / file).stat().st_size
    before, after = (bundle_info(one)["report"] for one in (plain, made))
    assert (before["quantized"]["head"], after["quantized"]["head"]) == (False, True)
    differences = [report["links"][-1]["relative"] for report in (before, after)]
    assert differences[0] != differences[1] < differences[0] + 0.05


def test_standard_operators_alone_do_it_too(workshop: Any, run: Any, request: pytest.FixtureRequest) -> None:
    if not is_tied(request):
        pytest.skip("the tied head has all the operators of the other one")
    made = workshop.bundle(run, target="portable", quantize="int8", quantize_head=True, **LENIENT)
    graph = onnx.load(made / GRAPH_FILES["int8"]).graph
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    assert [tensor.data_type for tensor in tables(made / GRAPH_FILES["int8"])] == [onnx.TensorProto.INT8]
    assert bundle_info(made)["report"]["links"][-1]["relative"] < 0.3


def test_a_token_that_is_looked_up_is_the_one_that_was_asked_for(workshop: Any, run: Any) -> None:
    made = workshop.bundle(run, quantize="int8", quantize_head=True, **LENIENT)
    forms = [cached_onnx_form(made / file, threads=1) for file in ("model.onnx", "model_quantized.onnx")]
    ids = [np.array([token, token + 1]) for token in range(5, WORDS - 1, 9)]
    exact, rounded = (form(left_padded(ids))["logits"] for form in forms)
    scale = np.abs(exact).max()
    assert np.abs(exact - rounded).max() < 0.2 * scale
    assert np.abs(exact - np.roll(rounded, 1, axis=0)).max() > 0.4 * scale


def test_it_writes_and_is_verified(workshop: Any, run: Any) -> None:
    made = workshop.bundle(run, quantize="int4", quantize_head=True, **LENIENT)
    generator = finegates_export.load(made, form="int4", threads=1)
    (found,) = generator.generate(["a film"], finegates_export.GenerationOptions(max_new_tokens=4, stop=()))
    assert found
    links = verify(run, made, tolerances=Tolerances(agreement=0.5, metric_points=100), threads=1)
    assert [link.exact for link in links] == [True, False, True]


@pytest.mark.parametrize(
    "changes", [{}, {"quantize": "int4", "target": "ort-cuda"}, {"quantize": "int8-static"}], ids=str
)
def test_a_head_in_int8_stands_beside_integers_alone(tmp_path: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^quantize-head"):
        ExportOptions(ckpt=tmp_path, out=tmp_path / "b", quantize_head=True, **changes)


def test_other_tasks_keep_their_heads(workshop: Any, tmp_path: Any) -> None:
    with pytest.raises(UnsupportedError, match="--quantize-head applies to text-generation"):
        export(ExportOptions(ckpt=workshop.run("coupled"), out=tmp_path / "b", quantize="int8", quantize_head=True))
