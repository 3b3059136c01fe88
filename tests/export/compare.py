"""Outputs of any form of a model on the same awkward inputs, and how far two of them are apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from finegates_export.families import family_of
from finegates_export.families.structure import Structure
from finegates_export.gates.gated_model import GatedModel, plain_model
from finegates_export.pruning.fold import fold
from finegates_export.pruning.plan import ShrinkPlan
from finegates_export.pruning.planner import make_plan
from finegates_export.pruning.shrink import shrink
from finegates_export.pruning.widths import Widths
from tests.tiny_models import IMAGE

TOLERANCE = 1e-4
"""What float32 forms may differ by, as a share of the scale."""
PRACTICE = 1e-5
"""What they differ by on models this small, at most."""
REJECTED = 100 * TOLERANCE
"""What every mutation must differ by at least."""
NAMES = ("input_ids", "attention_mask", "token_type_ids")
ROLES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}
"""The gated linears of a layer, where they are in it."""

Array = npt.NDArray[Any]


class Outputs(NamedTuple):
    """What a form of the model computes on all inputs."""

    logits: Array
    hidden: Array | None
    """Attended tokens only, one a row."""


def awkward_inputs(config: Any, seed: int = 3) -> list[dict[str, Array]]:
    """Batches of two rows of lengths one, odd and maximum; the second row is padded and has two segments.

    Image models get one batch: they know one length and no padding.
    """
    generator = np.random.default_rng(seed)
    family = family_of(config.model_type)
    names = family.input_names(config)
    if names == ("pixel_values",):
        return [{"pixel_values": generator.standard_normal((2, 3, IMAGE, IMAGE)).astype(np.float32)}]
    batches = []
    for length in (1, 7, family.max_length(config)):
        ids = generator.integers(0, config.vocab_size, (2, length))
        mask, segments = np.ones((2, length), np.int64), np.zeros((2, length), np.int64)
        mask[1, max(1, length // 2) :] = 0
        ids[mask == 0] = config.pad_token_id or 0
        segments[1, length // 3 :] = 1
        batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
        batches.append({name: batch[name] for name in names})
    return batches


def torch_outputs(model: Any, plain: Any = None) -> Outputs:
    """Run a torch model; `plain` is the transformers model in it, where it is wrapped."""
    plain = plain_model(model) if plain is None else plain
    hidden: list[torch.Tensor] = []
    encoder = family_of(plain.config.model_type).encoder(plain)
    handle = encoder.register_forward_hook(lambda _module, _inputs, output: hidden.append(output[0]))
    batches = awkward_inputs(plain.config)
    with torch.no_grad():
        logits = [model(**{n: torch.from_numpy(v) for n, v in batch.items()}).logits.numpy() for batch in batches]
    handle.remove()
    return _gather(logits, [tokens.numpy() for tokens in hidden], batches)


def onnx_outputs(graph: Any, config: Any, *, optimize: bool = True) -> Outputs:
    """Run a graph: a file, bytes, an `onnx.ModelProto`, or an `onnx_ir.Model`."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    if not optimize:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(_runnable(graph), settings, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    batches = awkward_inputs(config)
    results = [session.run(None, {name: batch[name] for name in names}) for batch in batches]
    hidden = [result[1] for result in results] if len(session.get_outputs()) > 1 else []
    return _gather([result[0] for result in results], hidden, batches)


def difference(one: Outputs, other: Outputs) -> float:
    """The largest difference of logits and, where both have it, last hidden state, as a share of the first's scale."""
    worst = _relative(one.logits, other.logits)
    if one.hidden is not None and other.hidden is not None:
        worst = max(worst, _relative(one.hidden, other.hidden))
    return worst


def gated(model: Any, layout: str, vectors: dict[str, torch.Tensor], **options: Any) -> GatedModel:
    """A gated model in evaluation mode."""
    wrapped = GatedModel(model, structure_of(model), layout, **options)
    wrapped.gates.load_vectors(vectors)
    return wrapped.eval()


def structure_of(model: Any) -> Structure:
    """The structure of a tiny model."""
    config = plain_model(model).config
    return family_of(config.model_type).structure(config)


def path_of(role: str, layer: int = 1) -> str:
    """Where a linear of a layer is in the model."""
    return f"bert.encoder.layer.{layer}.{ROLES[role]}"


def linear_of(model: Any, role: str, layer: int = 1) -> Any:
    """A linear of a layer, or peft's wrapper around it."""
    return plain_model(model).get_submodule(path_of(role, layer))


def expected_gates(
    layout: str, vectors: dict[str, torch.Tensor], role: str, rows: int, columns: int, layer: int = 1
) -> tuple[Array, Array]:
    """w_r and w_c of one linear in float64, from the definition of the layouts."""
    if layout == "matrix":
        path = path_of(role, layer)
        return _gate_values(vectors, f"{path}.row"), _gate_values(vectors, f"{path}.column")
    w_r, w_c = np.ones(rows), np.ones(columns)
    if layout == "coupled" and role == "query":
        w_r = _gate_values(vectors, f"layers.{layer}.qk")
    if layout == "coupled" and role == "output":
        heads = _gate_values(vectors, f"layers.{layer}.heads")
        w_c = _gate_values(vectors, f"layers.{layer}.vo") * heads.repeat(columns // len(heads))
    if layout == "coupled" and role == "down":
        w_c = _gate_values(vectors, f"layers.{layer}.ffn")
    return w_r, w_c


def fold_and_shrink(
    gated_model: GatedModel, change: Callable[[ShrinkPlan], ShrinkPlan] = lambda plan: plan
) -> tuple[Any, ShrinkPlan]:
    """Fold, plan and shrink; `change` is where a mutation of the plan goes."""
    model = fold(gated_model)
    structure = structure_of(model)
    plan = change(make_plan(model, structure, Widths()))
    return shrink(model, structure, plan), plan


def _gate_values(vectors: dict[str, torch.Tensor], name: str) -> Array:
    return np.clip(vectors[name].double().numpy() + 0.5, 0.0, 1.0)


def _gather(logits: list[Array], hidden: list[Array], batches: list[dict[str, Array]]) -> Outputs:
    counted = [
        tokens[batch["attention_mask"].astype(bool)]
        if "attention_mask" in batch
        else tokens.reshape(-1, tokens.shape[-1])
        for tokens, batch in zip(hidden, batches, strict=False)
    ]
    tokens = np.concatenate(counted) if counted else None
    return Outputs(np.concatenate(logits), tokens)


def _relative(one: Array, other: Array) -> float:
    assert one.shape == other.shape
    assert np.isfinite(other).all()
    return float(np.abs(one - other).max() / np.abs(one).max())


def _runnable(graph: Any) -> Any:
    if hasattr(graph, "SerializeToString"):
        return graph.SerializeToString()
    if hasattr(graph, "graph"):
        import onnx_ir

        return onnx_ir.to_proto(graph).SerializeToString()
    return graph
