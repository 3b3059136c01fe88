"""A linear's path travels with its product from tracing on, in every family's graph, and leaves no trace in files."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx_ir
import pytest
from torch import nn

from finegates_export.errors import ChainError
from finegates_export.families import family_of
from finegates_export.graphs.products import LINEAR, linear_nodes
from finegates_export.graphs.rewrite import add_constant
from finegates_export.graphs.saving import save_graph, strip
from finegates_export.graphs.trace import write_graph
from finegates_export.graphs.trace_cached import write_cached_graph
from tests.export.test_cached import decoder
from tests.export.test_families import gated_tiny, shrunk, structure_of
from tests.tiers import tiered
from tests.tiny import FRACTIONS
from tests.tiny_models import DECODER_VARIANTS, ENCODER_FAMILIES

UP = "bert.encoder.layer.0.intermediate.dense"


def linears_of(model, structure):
    modules = dict(model.named_modules())
    return {path: modules[path] for path in structure.linears() if isinstance(modules.get(path), nn.Linear)}


def traced(variant):
    """The graph of a ragged encoder, and its linears by path."""
    gated, _ = gated_tiny(variant, "coupled", closed={**FRACTIONS, "qk": 0.6})
    model, _ = shrunk(gated)
    family, linears = family_of(model.config.model_type), linears_of(model, structure_of(model))
    names = family.input_names(model.config)
    return write_graph(model, family.encoder(model), names, 20, linears=linears), linears


def depends_on_input(value):
    """Whether a value is computed from what the graph is given; position embeddings are not."""
    seen, waiting = set(), [value]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        if one.is_graph_input():
            return True
        seen.add(id(one))
        waiting += one.producer().inputs if one.producer() else ()
    return False


def check_matrices(graph, linears):
    """Each node multiplies the tokens by its linear's own matrix."""
    found, nodes = linear_nodes(graph, linears), {node.name: node for node in graph.graph}
    assert found.keys() == linears.keys()
    assert len(set(found.values())) == len(found)
    for path, name in found.items():
        matrix = nodes[name].inputs[1].const_value.numpy()
        np.testing.assert_array_equal(matrix, linears[path].weight.detach().numpy().T, err_msg=path)
        assert depends_on_input(nodes[name].inputs[0]), path


@pytest.mark.parametrize("variant", tiered(ENCODER_FAMILIES, fast=("bert",), default=("modernbert",)))
def test_every_linear_of_an_encoder_is_marked(variant):
    check_matrices(*traced(variant))


@pytest.mark.parametrize(
    ("variant", "opset"),
    tiered(product(DECODER_VARIANTS, (20, 23)), default=[("llama", 23)]),
)
def test_every_linear_of_a_decoder_with_a_cache_is_marked(variant, opset):
    own = decoder(variant)
    linears = linears_of(own.shrunk, own.structure)
    graph = write_cached_graph(own.shrunk, own.family.encoder(own.shrunk), own.layout, opset, linears)
    check_matrices(graph, linears)


@pytest.fixture(scope="module")
def bert():
    return traced("bert")


@pytest.mark.slow
def test_marks_that_changed_places_are_seen(bert):
    graph, linears = bert[0].clone(), bert[1]
    nodes = {node.metadata_props[LINEAR]: node for node in graph.graph if LINEAR in node.metadata_props}
    one, other = nodes[UP], nodes["bert.encoder.layer.1.intermediate.dense"]
    one.metadata_props[LINEAR], other.metadata_props[LINEAR] = other.metadata_props[LINEAR], UP
    with pytest.raises(AssertionError):
        check_matrices(graph, linears)


def test_a_mark_on_a_product_that_does_not_read_the_tokens_is_seen(bert):
    graph, linears = bert[0].clone(), bert[1]
    node = next(node for node in graph.graph if node.metadata_props.get(LINEAR) == UP)
    node.replace_input_with(0, add_constant(graph.graph, "positions", np.ones((4, 1), np.float32)))
    with pytest.raises(AssertionError, match=UP):
        check_matrices(graph, linears)


def test_a_linear_without_a_product_is_named(bert):
    with pytest.raises(ChainError, match=r"no product for bert\.pooler\.dense; install"):
        linear_nodes(bert[0], [UP, "bert.pooler.dense"])


def test_only_what_is_asked_for_is_marked(bert):
    assert list(linear_nodes(bert[0], [UP])) == [UP]
    marked = [node for node in bert[0].graph if LINEAR in node.metadata_props]
    assert len(marked) == len(bert[1])


def test_a_file_holds_no_mark(bert, tmp_path):
    graph = bert[0].clone()
    strip(graph, keep_linears=True)
    assert len(linear_nodes(graph, bert[1])) == len(bert[1])
    save_graph(graph, tmp_path / "model.onnx")
    read = onnx_ir.load(tmp_path / "model.onnx")
    assert not [node for node in read.graph if node.metadata_props]
    assert LINEAR.encode() not in (tmp_path / "model.onnx").read_bytes()
    with pytest.raises(ChainError, match="no product for"):
        linear_nodes(read, [UP])
