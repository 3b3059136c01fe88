"""The known ways to be wrong. Each is built on purpose, and the comparison that exports rely on rejects it widely."""

from __future__ import annotations

import dataclasses
import json
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from finegates_export.errors import FusionError, InputError
from finegates_export.families.bert import Bert
from finegates_export.gates.adapter import load_adapter, save_adapter
from finegates_export.gates.gate import gate_noise
from finegates_export.gates.stored_adapter import read_adapter
from finegates_export.graphs.inspect import inspect_file, inspect_graph
from finegates_export.graphs.passes.fuse import FuseForOrt
from finegates_export.graphs.passes.graph_pass import run_passes
from finegates_export.graphs.products import load_graph
from finegates_export.graphs.quantization.int8 import quantize_dynamic_int8
from finegates_export.graphs.saving import save_graph
from finegates_export.graphs.trace import write_graph
from finegates_export.pipeline.export import export
from finegates_export.pipeline.options import ExportOptions
from finegates_export.pruning.fold import fold
from tests.export.compare import (
    NAMES,
    PRACTICE,
    REJECTED,
    TOLERANCE,
    difference,
    fold_and_shrink,
    gated,
    linear_of,
    onnx_outputs,
    structure_of,
    torch_outputs,
)
from tests.export.conftest import bundle_info
from tests.tiny import FRACTIONS, LORA, random_gates, tiny_lora
from tests.tiny_models import tiny_model

LAYERS = 2


def gated_tiny(layout="coupled", closed=None, activation="gelu", seed=4):
    model = tiny_model(activation=activation)
    vectors = random_gates(structure_of(model), layout, FRACTIONS if closed is None else closed, seed)
    return gated(model, layout, vectors)


def reference_and_shrunk(**options):
    model = gated_tiny(**options)
    reference = torch_outputs(model, model.model)
    shrunk, _ = fold_and_shrink(model)
    assert difference(reference, torch_outputs(shrunk)) < PRACTICE
    return reference, shrunk


@pytest.fixture(scope="module")
def narrow(workshop):
    """A shrunk model with narrower heads: what it computes, its config, and the file of its plain graph."""
    reference, shrunk = reference_and_shrunk()
    path = workshop.make("narrow.onnx", lambda file: save_graph(write_graph(shrunk, shrunk.bert, NAMES, 20), file))
    return reference, shrunk.config, path


def attention_nodes(graph):
    return [node for node in graph.graph if node.op_type in ("Attention", "MultiHeadAttention")]


def test_trap_1_the_softmax_scale_is_that_of_the_original_head_size():
    reference, shrunk = reference_and_shrunk()
    for layer in shrunk.bert.encoder.layer:
        attention = layer.attention.self
        heads = attention.heads
        assert heads.scale == 8**-0.5
        assert heads.qk_width < 8
        attention.heads = dataclasses.replace(heads, scale=heads.qk_width**-0.5)
    assert difference(reference, torch_outputs(shrunk)) > REJECTED


def test_trap_1_the_fused_graph_keeps_the_scale(narrow):
    reference, config, plain = narrow
    fused = run_passes(load_graph(plain), [FuseForOrt({})])
    assert difference(reference, onnx_outputs(fused, config)) < TOLERANCE
    assert len(attention_nodes(fused)) == LAYERS
    for node in attention_nodes(fused):
        assert node.attributes["scale"].as_float() == pytest.approx(8**-0.5)
        del node.attributes["scale"]  # what onnxruntime's own fusion leaves: the default of the new width
    assert difference(reference, onnx_outputs(fused, config)) > REJECTED


def test_trap_2_fewer_fused_nodes_than_promised_is_an_error_that_names_them(narrow):
    _, config, plain = narrow
    promised = Bert().expected_fusions(config, LAYERS, LAYERS)
    assert promised == {"attention": 2, "normalization": 4, "activation": 2}
    fused = inspect_graph(run_passes(load_graph(plain), [FuseForOrt(promised)])).fused
    assert all(fused[name] >= count for name, count in promised.items())
    for name, count in fused.items():
        with pytest.raises(FusionError, match=rf"only part of the graph was fused \({name}: {count} of {count + 1}\)"):
            run_passes(load_graph(plain), [FuseForOrt({**promised, name: count + 1})])


@pytest.mark.slow
def test_trap_2_attention_that_no_pattern_matches_is_missed_and_counted(tmp_path):
    model = tiny_model(layers=1)

    def with_capped_scores(x_BSD, **_kwargs):
        q_BSD, k_BSD, v_BSD = (linear_of(model, role, 0)(x_BSD) for role in ("query", "key", "value"))
        return (q_BSD @ k_BSD.mT).tanh().softmax(-1) @ v_BSD, None

    model.bert.encoder.layer[0].attention.self.forward = with_capped_scores
    save_graph(write_graph(model, model.bert, NAMES, 20), tmp_path / "plain.onnx")
    with pytest.raises(FusionError, match="attention: 0 of 1"):
        run_passes(load_graph(tmp_path / "plain.onnx"), [FuseForOrt(Bert().expected_fusions(model.config, 1, 1))])


def test_trap_3_heads_of_a_layer_have_their_own_number_and_widths():
    closed = {"heads": 0.25, "qk": 0.8, "vo": 0.3}
    _, shrunk = reference_and_shrunk(closed=closed, seed=9)
    modules = [layer.attention.self for layer in shrunk.bert.encoder.layer]
    assert any(m.query.out_features != m.value.out_features for m in modules)
    assert all(m.heads.count == 3 != shrunk.config.num_attention_heads for m in modules)


@torch.no_grad()
def test_trap_4_closing_residual_dims_after_the_fact_is_not_equivalent():
    """All readers and writers closed a dim; a norm over the dims that are left is another norm."""
    model = tiny_model()
    open_dims = [dim for dim in range(32) if dim != 5]
    embeddings = model.bert.embeddings
    for table in (embeddings.word_embeddings, embeddings.position_embeddings, embeddings.token_type_embeddings):
        table.weight[:, 5] = 0.0
    for layer in range(LAYERS):
        for role in ("query", "key", "value", "up"):
            linear_of(model, role, layer).weight[:, 5] = 0.0
        for role in ("output", "down"):
            linear_of(model, role, layer).weight[5] = 0.0
            linear_of(model, role, layer).bias[5] = 0.0
    norms = [module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
    for norm in norms:
        norm.weight[5] = norm.bias[5] = 0.0
    whole = torch_outputs(model)

    def over_open_dims(norm, args, output):
        output[..., open_dims] = torch.nn.functional.layer_norm(
            args[0][..., open_dims], (31,), norm.weight[open_dims], norm.bias[open_dims], norm.eps
        )
        return output

    for norm in norms:
        norm.register_forward_hook(over_open_dims)
    assert difference(whole, torch_outputs(model)) > REJECTED


def test_trap_4_a_closed_residual_dim_stays_in_every_linear():
    closed = {"residual": 0.5}
    _, shrunk = reference_and_shrunk(layout="matrix", closed=closed)
    for layer in range(LAYERS):
        assert linear_of(shrunk, "up", layer).weight.shape == (64, 32)
        assert linear_of(shrunk, "down", layer).weight.shape == (32, 64)


def test_trap_5_every_linear_of_the_int8_graph_is_an_integer_product(workshop):
    bundle = workshop.bundle(workshop.run("coupled", LORA), quantize="int8", min_agreement=0.8, max_metric_loss=20.0)
    form = bundle_info(bundle)["report"]["quantized"]
    assert form["products"] == 6 * LAYERS - len(form["left_in_float"])
    assert inspect_file(bundle / "model_quantized.onnx").integer_products == form["products"]
    assert inspect_file(bundle / "model.onnx").integer_products == 0


def test_trap_5_quantizing_after_fusion_would_leave_attention_in_float(narrow, tmp_path):
    plain, before, after, fused = narrow[2], *(tmp_path / f"{name}.onnx" for name in ("before", "after", "fused"))
    quantize_dynamic_int8(plain, before, [node.name for node in load_graph(plain).graph if node.op_type == "MatMul"])
    save_graph(run_passes(load_graph(plain), [FuseForOrt({})]), fused)
    quantize_dynamic_int8(fused, after, [node.name for node in load_graph(fused).graph if node.op_type == "MatMul"])
    assert inspect_graph(run_passes(load_graph(before), [FuseForOrt({})])).integer_products == 6 * LAYERS
    assert inspect_file(after).integer_products == 3 * LAYERS


def stored_adapter(folder, model, seed=2):
    wrapped = tiny_lora(model, structure_of(model).linears(), LORA, seed)
    save_adapter(wrapped, folder)
    return wrapped


def test_trap_6_a_reloaded_adapter_is_not_zero(tmp_path):
    wrapped = stored_adapter(tmp_path, tiny_model())
    reference = torch_outputs(wrapped)
    again = load_adapter(tiny_model(), read_adapter(tmp_path))
    assert difference(reference, torch_outputs(again)) == 0.0
    for name, parameter in again.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    assert difference(reference, torch_outputs(again)) > REJECTED


@pytest.mark.parametrize("which", ["all", "one"])
def test_trap_6_an_adapter_saved_for_other_names_is_refused(tmp_path, which):
    stored_adapter(tmp_path, tiny_model())
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    chosen = set(tensors) if which == "all" else {next(iter(tensors))}
    save_file(
        {name.replace(".lora_", ".inner.lora_") if name in chosen else name: tensors[name] for name in tensors}, file
    )
    with pytest.raises(InputError, match="the adapter would load as zeros"):
        load_adapter(tiny_model(), read_adapter(tmp_path))


def test_trap_6_a_head_that_came_with_the_adapter_is_kept_apart(tmp_path):
    wrapped = stored_adapter(tmp_path, tiny_model())
    file = tmp_path / "adapter_model.safetensors"
    head = {"base_model.model.classifier.weight": torch.ones(3, 32), "base_model.model.classifier.bias": torch.ones(3)}
    save_file({**load_file(file), **head}, file)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({**config, "task_type": "SEQ_CLS", "modules_to_save": ["classifier", "score"]})
    )
    stored = read_adapter(tmp_path)
    assert sorted(stored.other) == ["classifier.bias", "classifier.weight"]
    assert difference(torch_outputs(wrapped), torch_outputs(load_adapter(tiny_model(), stored))) == 0.0


@pytest.mark.parametrize("role", ["value", "up"])
def test_trap_7_a_closed_row_that_kept_its_bias_would_be_seen(role):
    model = gated_tiny("matrix")
    reference = torch_outputs(model, model.model)
    bias = linear_of(tiny_model(), role).bias
    folded = fold(model)
    linear = linear_of(folded, role)
    silent = (linear.weight == 0).all(1)
    assert silent.any()
    assert not linear.bias[silent].any()
    assert difference(reference, torch_outputs(folded)) < PRACTICE
    linear.bias[silent] = bias.detach()[silent]
    assert difference(reference, torch_outputs(folded)) > REJECTED


def test_trap_7_a_gate_in_front_of_the_activation_scales_its_argument():
    """Moving up's row gates to down's columns is another function."""
    moved, model = gated_tiny("matrix", {}), gated_tiny("matrix", {})
    vectors = model.gates.vectors()
    up, down = (f"bert.encoder.layer.1.{name}" for name in ("intermediate.dense.row", "output.dense.column"))
    product = (vectors[up] + 0.5).clamp(0, 1) * (vectors[down] + 0.5).clamp(0, 1)
    moved.gates.load_vectors({**vectors, up: torch.ones_like(product), down: product - 0.5})
    assert difference(torch_outputs(model, model.model), torch_outputs(moved, moved.model)) > REJECTED


def changed(plan, **parts):
    """The plan with other parts in its last layer."""
    last = dataclasses.replace(plan.layers[-1], **parts)
    return dataclasses.replace(plan, layers=(*plan.layers[:-1], last))


def cut_a_neuron(plan):
    feed_forward = plan.layers[-1].feed_forward
    return changed(plan, feed_forward=dataclasses.replace(feed_forward, neurons=feed_forward.neurons[1:]))


def cut_a_head(plan):
    attention = plan.layers[-1].attention
    return changed(plan, attention=dataclasses.replace(
        attention, heads=attention.heads[1:], qk=attention.qk[1:], vo=attention.vo[1:]))  # fmt: skip


def cut_a_dim(kind):
    def change(plan):
        attention = plan.layers[-1].attention
        return changed(
            plan,
            attention=dataclasses.replace(attention, **{kind: tuple(dims[:-1] for dims in getattr(attention, kind))}),
        )

    return change


def lose_constants(plan):
    return changed(plan, feed_forward=dataclasses.replace(plan.layers[-1].feed_forward, constants=()))


@pytest.mark.parametrize(
    ("mutation", "layout", "activation"),
    [
        (cut_a_neuron, "coupled", "gelu"),
        (cut_a_head, "coupled", "gelu"),
        (cut_a_dim("qk"), "coupled", "gelu"),
        (cut_a_dim("vo"), "coupled", "gelu"),
        (lose_constants, "matrix", "sigmoid"),
    ],
    ids=["a live neuron cut", "a live head cut", "live Q/K dims cut", "live V/O dims cut", "act(0) lost"],
)
def test_trap_7_a_plan_that_cuts_too_much_would_be_seen(mutation, layout, activation):
    closed = {"ffn": 0.4, "heads": 0.25}
    model = gated_tiny(layout, closed, activation)
    reference = torch_outputs(model, model.model)
    shrunk, _ = fold_and_shrink(model)
    assert difference(reference, torch_outputs(shrunk)) < PRACTICE
    wrong, _ = fold_and_shrink(gated_tiny(layout, closed, activation), mutation)
    assert difference(reference, torch_outputs(wrong)) > REJECTED


def files_of(bundle):
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}


def test_trap_9_a_bundle_tells_nothing_of_the_machine_that_made_it(workshop):
    run = workshop.run("coupled", LORA)
    bundle = workshop.bundle(run, quantize="int8", min_agreement=0.8, max_metric_loss=20.0)
    root = str(workshop.root).encode()
    for name, content in files_of(bundle).items():
        for trace in (b"site-packages", b'.py"', b"Traceback", b'File "', root, str(run).encode()):
            assert trace not in content, (name, trace)
        if name.endswith(".onnx"):
            for trace in (b"stack_trace", b".py", b"/home", b"/tmp/", b"line "):  # looked for
                assert trace not in content, (name, trace)


@pytest.mark.slow
def test_trap_9_the_same_run_exported_twice_is_the_same_bytes(workshop, tmp_path):
    run = workshop.run("coupled", LORA)
    options = {"quantize": "int8", "int8_linears": "all", "min_agreement": 0.8, "max_metric_loss": 20.0}
    bundle = workshop.bundle(run, **options)
    export(ExportOptions(ckpt=run, out=tmp_path / "again", threads=1, **options))
    first, second = files_of(bundle), files_of(tmp_path / "again")
    assert list(first) and sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []


def test_trap_10_two_processes_draw_the_same_noise():
    """Ranks share seed and step and nothing else: neither torch's nor numpy's own state."""
    drawn = []
    for rank in range(2):
        torch.manual_seed(rank)
        np.random.seed(rank)  # the state that must not matter
        model = gated_tiny()
        model.train()
        model.model.eval()  # dropout off
        outputs = torch_outputs(partial(model, step=5), model.model)
        drawn.append((model.gates.sample(0.1, seed=3, step=5), outputs))
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert difference(drawn[0][1], drawn[1][1]) == 0.0


def test_trap_10_no_two_seeds_and_steps_draw_the_same_noise():
    seeds = (0, 1, 2, 2**31, 2**32 - 1)
    steps = (0, 1, 2, 1000)
    drawn = {tuple(gate_noise(4, 0.1, seed, step).tolist()) for seed in seeds for step in steps}
    assert len(drawn) == len(seeds) * len(steps)
