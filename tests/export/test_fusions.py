"""Every family gets its fused nodes, ragged or not, and a fused node that says something else is seen."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from finegates_export.families import family_of
from finegates_export.families.family import FUSED_ACTIVATIONS
from finegates_export.gates.gated_model import GatedModel
from finegates_export.graphs.inspect import constant_matrix, inspect_graph
from finegates_export.graphs.passes.fuse import FuseForOrt
from finegates_export.graphs.passes.graph_pass import run_passes
from finegates_export.graphs.passes.skip_normalization import FuseSkipNormalization
from finegates_export.graphs.products import load_graph
from finegates_export.graphs.quantization.int8 import quantize_dynamic_int8
from finegates_export.graphs.saving import save_graph
from finegates_export.graphs.trace import write_graph
from tests.export.compare import REJECTED, TOLERANCE, difference, onnx_outputs, torch_outputs
from tests.export.test_families import gated_tiny, shrunk, structure_of
from tests.tiers import tiered
from tests.tiny import FRACTIONS
from tests.tiny_models import TRACED_VARIANTS, tiny_model

RAGGED = {"as it was": {}, "ragged": {**FRACTIONS, "qk": 0.6}}


@pytest.fixture(scope="module")
def plain_graph(workshop):
    """The plain graph of a variant, its torch outputs and its config."""

    def make(variant, closed="ragged"):
        gated, plain = gated_tiny(variant, "coupled", closed=RAGGED[closed])
        reference = torch_outputs(gated, plain)
        model, plan = shrunk(gated)
        family = family_of(model.config.model_type)
        names = family.input_names(model.config)
        path = workshop.make(
            f"plain {variant} {closed}.onnx",
            lambda file: save_graph(write_graph(model, family.encoder(model), names, 20), file),
        )
        expected = family.expected_fusions(model.config, plan.attention_layers, plan.feed_forward_layers)
        return path, reference, model, expected

    return make


@pytest.mark.parametrize("closed", tiered(RAGGED, fast=("ragged",)))
@pytest.mark.parametrize(
    "variant", tiered(TRACED_VARIANTS, fast=("bert",), default=("qwen3", "modernbert", "mpnet", "deberta-v3"))
)
def test_attention_norms_and_activations_are_fused_in_every_layer(variant, closed, plain_graph):
    path, reference, model, expected = plain_graph(variant, closed)
    assert expected == {"attention": 2, "normalization": 4, "activation": 2}
    fused = run_passes(load_graph(path), [FuseForOrt(expected)])
    found = inspect_graph(fused).fused
    assert found["attention"] == 2
    assert all(found[name] >= count for name, count in expected.items())
    operators = [node.op_type for node in fused.graph]
    assert not {"Erf", "Softmax"} & set(operators)
    assert operators.count("LayerNormalization") <= 2  # of embeddings: nothing is added in front of those
    assert difference(reference, onnx_outputs(fused, model.config)) < TOLERANCE


@pytest.mark.parametrize("activation", tiered(FUSED_ACTIVATIONS, default=2))
def test_an_activation_that_transformers_writes_out_is_one_operator_too(activation):
    model = tiny_model("bert", activation=activation)
    family = family_of(model.config.model_type)
    before = {name: type(module) for name, module in model.named_modules()}
    graph = write_graph(model, family.encoder(model), family.input_names(model.config), 20)
    assert {name: type(module) for name, module in model.named_modules()} == before, "the model is left as it was"
    fused = run_passes(graph, [FuseForOrt(family.expected_fusions(model.config, 2, 2))])
    operators = [node.op_type for node in fused.graph]
    assert sum(operators.count(name) for name in ("Gelu", "BiasGelu", "FastGelu")) == 2
    assert not {"Erf", "Pow"} & set(operators)
    gated = GatedModel(model, structure_of(model), "none").eval()
    assert difference(torch_outputs(gated, model), onnx_outputs(fused, model.config)) < TOLERANCE


@pytest.mark.slow
def test_another_activation_is_not_taken_for_one_of_them():
    model = tiny_model("bert", activation="quick_gelu")
    family = family_of(model.config.model_type)
    graph = write_graph(model, family.encoder(model), family.input_names(model.config), 20)
    assert "Gelu" not in {node.op_type for node in graph.graph}


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["mpnet", "deberta-v3"])
def test_a_position_bias_reaches_the_kernel_as_one_input(variant, plain_graph):
    path, reference, model, expected = plain_graph(variant)
    fused = run_passes(load_graph(path), [FuseForOrt(expected)])
    nodes = [node for node in fused.graph if node.op_type == "MultiHeadAttention"]
    assert len(nodes) == 2
    assert difference(reference, onnx_outputs(fused, model.config)) < TOLERANCE
    for node in nodes:
        assert node.inputs[5] is not None
        node.replace_input_with(5, None)
    assert difference(reference, onnx_outputs(fused, model.config)) > REJECTED


@pytest.mark.slow
def test_int8_products_are_still_fused_around(plain_graph, tmp_path):
    path, _, model, expected = plain_graph("modernbert")
    linears = structure_of(model).linears()
    products = [node.name for node in load_graph(path).graph if node.op_type == "MatMul" and constant_matrix(node)]
    quantize_dynamic_int8(path, tmp_path / "int8.onnx", products)
    facts = inspect_graph(run_passes(load_graph(tmp_path / "int8.onnx"), [FuseForOrt(expected)]))
    assert facts.integer_products == len(linears) == 8
    assert facts.fused["attention"] == 2


class PreNorm(nn.Module):
    """Two sublayers on a residual stream whose sums are read twice."""

    def __init__(self, *, bias):
        super().__init__()
        torch.manual_seed(0)
        self.linears = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(8, bias=bias) for _ in range(2))
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, input_ids):
        x_BSD = torch.stack([input_ids.float() / (7 + i) for i in range(8)], -1)
        for linear, norm in zip(self.linears, self.norms, strict=True):
            x_BSD = x_BSD + linear(x_BSD)
            x_BSD = x_BSD + norm(x_BSD)
        return x_BSD


@pytest.mark.parametrize("bias", [True, False])
def test_the_sum_in_front_of_a_norm_stays_the_residual_stream(bias):
    import numpy as np
    import onnxruntime

    model = PreNorm(bias=bias).eval()
    ids = torch.arange(10).reshape(2, 5)
    axes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")},)
    program = torch.onnx.export(model, (ids,), dynamo=True, opset_version=20, dynamic_shapes=axes, verbose=False)
    graph = program.model

    def run(made):
        import onnx_ir

        session = onnxruntime.InferenceSession(
            onnx_ir.to_proto(made).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return session.run(None, {session.get_inputs()[0].name: ids.numpy()})[0]

    assert FuseSkipNormalization()(graph).modified
    assert not FuseSkipNormalization()(graph).modified
    assert sum(node.op_type == "SkipLayerNormalization" for node in graph.graph) == 2
    with torch.no_grad():
        wanted = model(ids).numpy()
    assert np.abs(run(graph) - wanted).max() < 1e-5 * np.abs(wanted).max()
    skips = [node for node in graph.graph if node.op_type == "SkipLayerNormalization"]
    for node in skips:  # the norm's own output in place of the sum
        node.outputs[3].replace_all_uses_with(node.outputs[0], replace_graph_outputs=True)
    assert np.abs(run(graph) - wanted).max() > 1e-2 * np.abs(wanted).max()


@pytest.mark.slow
def test_a_family_that_gets_fewer_nodes_than_it_says_is_not_exported(plain_graph):
    from finegates_export.errors import FusionError

    path, _, _, expected = plain_graph("vit")
    more = {**expected, "normalization": 99}
    with pytest.raises(FusionError, match=r"only part of the graph was fused \(normalization: \d of 99\)"):
        run_passes(load_graph(path), [FuseForOrt(more)])
    assert dataclasses.is_dataclass(inspect_graph(load_graph(path)))
