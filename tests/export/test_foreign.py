"""Each part of another library that it does not promise to keep is still what we take it for."""

from __future__ import annotations

import ast
import gc
import inspect
import json
import weakref
from pathlib import Path

import onnx_ir
import pytest
import torch
import transformers
from onnxscript.rewriter import pattern
from transformers import masking_utils

import finegates_export
import finegates_trainer
from finegates_export.common import foreign

HOME = Path(foreign.__file__)


def test_auto_classes_still_know_their_model_classes():
    classes = foreign.model_classes(transformers.AutoModelForSequenceClassification)
    assert transformers.BertConfig in classes.keys()  # noqa: SIM118  # not a mapping
    assert classes[transformers.BertConfig] is transformers.BertForSequenceClassification
    assert transformers.ViTConfig not in classes.keys()  # noqa: SIM118


@pytest.mark.parametrize("loader", [transformers.AutoModelForCausalLM, transformers.GPT2LMHeadModel])
def test_a_loader_still_makes_the_class_of_the_config(loader):
    assert foreign.model_class(loader, transformers.GPT2Config()) is transformers.GPT2LMHeadModel


def test_masks_are_made_by_the_stand_in_and_by_transformers_again():
    own, asked = masking_utils.sdpa_mask, []

    def wrap(maker, full):
        assert maker is own
        assert full is masking_utils.bidirectional_mask_function
        return lambda **given: asked.append(given) or maker(**given)

    model = transformers.BertModel(
        transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    ).eval()
    mask = torch.tensor([[1, 1, 0]])
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        asked.clear()
        with foreign.replaced_masks(wrap), torch.no_grad():
            model(torch.ones((1, 3), dtype=torch.int64), mask)
        assert len(asked) == 1, attention
        assert {"q_length", "attention_mask", "mask_function"} <= asked[0].keys()
    assert masking_utils.sdpa_mask is own is masking_utils.ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]
    assert "allow_is_causal_skip" in inspect.signature(own).parameters


def test_torch_still_writes_the_structure_of_a_value():
    told = foreign.tree_structure({"logits": torch.zeros(1)})
    assert "logits" in json.dumps(json.loads(told))


def is_alive(kept):
    """In a function: an assertion that holds keeps what it compared for a while."""
    return kept() is not None


@pytest.mark.slow
def test_onnxscript_holds_the_last_matched_graph_until_its_rules_forget_it():
    rule = pattern.RewriteRule(lambda op, x: op.Neg(op.Neg(x)), lambda op, x: op.Identity(x))
    x = onnx_ir.val("x", onnx_ir.DataType.FLOAT, [1])
    inner = onnx_ir.node("Neg", [x])
    outer = onnx_ir.node("Neg", inner.outputs)
    graph = onnx_ir.Graph([x], outer.outputs, nodes=[inner, outer], opset_imports={"": 20})
    model = onnx_ir.Model(graph, ir_version=10)
    assert pattern.RewriteRuleSet([rule]).apply_to_model(model) == 1
    kept = weakref.ref(graph)
    del x, inner, outer, graph, model
    gc.collect()
    assert is_alive(kept), "onnxscript drops the graph itself: forget_graphs is no longer needed"
    foreign.forget_graphs()
    gc.collect()
    assert not is_alive(kept)


def private_parts(source: str) -> list[str]:
    """Private names that a file imports of other libraries, or reads of what it does not define."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("finegates"):
            names = [*(node.module or "").split("."), *(one.name for one in node.names)]
            found += [name for name in names if name.startswith("_") and not name.startswith("__")]
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _of_self(node)}
    return found + [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if not _of_self(node)
        and node.attr not in own
        and ast.unparse(node) != "os._exit"  # documented, in spite of its name
    ]


def _of_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def test_private_parts_of_others_are_touched_in_one_file():
    assert {"_model_mapping", "_get_model_class", "_pytree"} <= set(private_parts(HOME.read_text(encoding="utf-8")))
    for package in (finegates_export, finegates_trainer):
        for file in Path(package.__file__).parent.rglob("*.py"):
            if file != HOME:
                assert private_parts(file.read_text(encoding="utf-8")) == [], file
