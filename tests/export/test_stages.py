"""The stages of an export: values that stay as they are, in one order, each of which can be had alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from finegates_export.errors import ChainError
from finegates_export.graphs.targets import TARGETS
from finegates_export.graphs.writer import GraphWriter, Traced
from finegates_export.pipeline.float_graphs import FloatGraphs
from finegates_export.pipeline.memory import Handed
from finegates_export.pipeline.proof import Forms, Proof
from finegates_export.pipeline.prune import Pruned, prune, shrunk_again
from finegates_export.pipeline.quantize import Quantization
from finegates_export.pipeline.source import Source, find_source
from finegates_export.pruning.residual_sides import never
from finegates_export.pruning.widths import Widths
from finegates_export.verification.link import Tolerances


@pytest.fixture(scope="module")
def source(workshop: Any) -> Source:
    return find_source(workshop.run("coupled", layers=1))


@pytest.fixture(scope="module")
def pruned(source: Source) -> tuple[Any, Pruned]:
    return prune(source, Widths(), never, None)


def writer_of(source: Source, target: str = "portable") -> GraphWriter:
    return GraphWriter(source.family, source.config, source.task, TARGETS[target])


@pytest.mark.parametrize("value", [Source, Pruned, Traced, FloatGraphs, Quantization, GraphWriter, Forms, Proof])
def test_what_a_stage_hands_on_stays_as_it_is(value: type) -> None:
    assert dataclasses.is_dataclass(value)
    assert value.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_forms_are_proven_in_the_order_in_which_they_are_made(source: Source) -> None:
    proof = Proof.of(source, Tolerances(), threads=1)
    prune(source, Widths(), never, proof)
    assert [link.name for link in proof.chain.links] == ["folded", "shrunk torch"]


def test_only_the_plan_takes_no_proof_and_is_the_same(source: Source, pruned: tuple[Any, Pruned]) -> None:
    proof = Proof.of(source, Tolerances(), threads=1)
    assert prune(source, Widths(), never, proof)[1] == pruned[1]


def test_a_model_that_was_given_up_is_made_again_bit_by_bit(source: Source, pruned: tuple[Any, Pruned]) -> None:
    model, made = pruned
    again = shrunk_again(source, made.plan)
    for (name, one), (other_name, other) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert name == other_name
        assert bool((one == other).all())


@pytest.mark.slow
def test_a_graph_of_another_plan_is_rejected(source: Source, pruned: tuple[Any, Pruned]) -> None:
    model, made = pruned
    writer = writer_of(source)
    assert set(writer.trace(model, made.plan).products) == set(source.structure.linears())
    (layer,) = made.plan.layers
    network = dataclasses.replace(layer.feed_forward, neurons=layer.feed_forward.neurons[1:])
    other = dataclasses.replace(made.plan, layers=(dataclasses.replace(layer, feed_forward=network),))
    with pytest.raises(ChainError, match=r"the graph holds [\d,]+ linear weights, the plan says"):
        writer.trace(model, other)


def test_what_is_handed_over_is_taken_once() -> None:
    handed = Handed("a graph")
    assert handed.take() == "a graph"
    with pytest.raises(IndexError):
        handed.take()
