"""What tracing and fusing leave behind around attention: a mask made index by index, reshapes there and back."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir
import onnxruntime
import pytest
import torch
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array
from transformers import masking_utils

from finegates_export.graphs.padding_mask import spread_padding
from finegates_export.graphs.passes.round_trips import DropRoundTrips
from finegates_export.graphs.trace import write_graph
from finegates_export.sources.base import find_base
from tests.tiny import tiny_base

LOOKED_UP = "GatherND"
"""The operator of a mask that is made index by index."""
PADDED = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]])


def mask_of(rule):
    make = masking_utils.ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]
    sizes = {"batch_size": 3, "q_length": 4, "kv_length": 4}
    return make(**sizes, mask_function=rule, attention_mask=PADDED.bool(), allow_is_causal_skip=False)


def test_a_spread_mask_is_the_one_that_is_looked_up():
    rule = masking_utils.bidirectional_mask_function
    expected = mask_of(rule)
    with spread_padding():
        found = mask_of(rule)
        assert found.shape == expected.shape == (3, 1, 4, 4)
        assert torch.equal(found, expected)
        assert not torch.equal(found, expected.transpose(2, 3)), "padding goes by the token attended to"


def test_other_masks_are_made_as_ever():
    window = masking_utils.sliding_window_bidirectional_mask_function(2)
    expected = [mask_of(rule) for rule in (window, masking_utils.causal_mask_function)]
    with spread_padding():
        found = [mask_of(rule) for rule in (window, masking_utils.causal_mask_function)]
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    assert not torch.equal(expected[0], mask_of(masking_utils.bidirectional_mask_function))


def test_transformers_is_left_as_it_was_even_after_an_error():
    before = masking_utils.sdpa_mask, masking_utils.ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]
    with pytest.raises(KeyError), spread_padding():
        assert masking_utils.sdpa_mask is not before[0]
        raise KeyError
    assert (masking_utils.sdpa_mask, masking_utils.ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]) == before


@pytest.mark.slow
@pytest.mark.parametrize(("family", "looked_up"), [("bert", False), ("mpnet", False), ("modernbert", True)])
def test_a_traced_graph_looks_nothing_up_but_windows(family, looked_up, tmp_path):
    base = find_base(str(tiny_base(tmp_path / family, family)))
    model = base.load("classification", ("no", "yes"))
    names = base.family().input_names(base.config())
    kinds = Counter(node.op_type for node in write_graph(model, base.family().encoder(model), names, 20).graph)
    assert (kinds[LOOKED_UP] > 0) == looked_up


def there_and_back(there=(0, 0, 2, 3), back=(0, 0, -1), apart=("batch", "sequence", 2, 3)):
    names = {"there": there, "back": back}
    shapes = [from_array(np.asarray(shape, np.int64), name) for name, shape in names.items()]
    nodes = [
        make_node("Reshape", ["x", "there"], ["apart"], "first"),
        make_node("Reshape", ["apart", "back"], ["joined"], "second"),
        make_node("Neg", ["joined"], ["y"], "negative"),
    ]
    x = make_tensor_value_info("x", 1, ["batch", "sequence", 6])
    y = make_tensor_value_info("y", 1, None)
    graph = make_graph(nodes, "g", [x], [y], shapes, value_info=[make_tensor_value_info("apart", 1, apart)])
    return onnx_ir.from_proto(make_model(graph, opset_imports=[make_opsetid("", 20)], ir_version=10))


def computed(graph):
    file = onnx_ir.to_proto(graph).SerializeToString()
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.arange(60, dtype=np.float32).reshape(2, 5, 6)})[0]


def test_reshapes_there_and_back_are_dropped():
    graph = there_and_back()
    expected = computed(graph)
    assert DropRoundTrips()(graph).modified
    assert [node.op_type for node in graph.graph] == ["Neg"]
    assert np.array_equal(computed(graph), expected)


@pytest.mark.parametrize(
    "changed",
    [
        {"back": (0, -1, 3)},
        {"there": (0, 0, 3, 2), "apart": ("batch", "sequence", 3, "some")},
        {"there": (5, 2, 2, 3), "apart": (5, 2, 2, 3)},
    ],
    ids=["joined otherwise", "sizes not known", "rows and tokens exchanged"],
)
def test_reshapes_to_elsewhere_stay(changed):
    graph = there_and_back(**changed)
    expected = computed(graph)
    assert not DropRoundTrips()(graph).modified
    assert np.array_equal(computed(graph), expected)
