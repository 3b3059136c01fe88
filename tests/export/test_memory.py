"""An export gives weights back as soon as it is done with them."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from finegates_export import ExportOptions, export
from finegates_export.graphs import saving
from finegates_export.graphs.writer import GraphWriter
from finegates_export.pipeline import memory
from finegates_export.pipeline.proof import Proof
from tests.export.conftest import bundle_info
from tests.tiers import tiered

LENIENT = {"min_agreement": 0.0, "max_metric_loss": 1000.0}
"""A tiny random model decides by a hair."""


@pytest.fixture(scope="module")
def run(workshop: Any) -> Any:
    return workshop.run("coupled", task="text-generation", variant="llama", generator=True)


@pytest.mark.slow
@pytest.mark.parametrize("forgets", tiered([True, False], default=1))
def test_a_graph_is_gone_before_its_file_is_checked(
    run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, forgets: bool
) -> None:
    graphs: list[Any] = []
    alive: list[bool] = []
    finish, deliver = GraphWriter.finish, saving.deliver_graph

    def finished(writer: GraphWriter, graph: Any, plan: Any) -> Any:
        graphs.append(weakref.ref(graph.graph))
        return finish(writer, graph, plan)

    def delivered(*given: Any) -> None:
        gc.collect()
        alive.append(graphs[0]() is not None)
        deliver(*given)

    monkeypatch.setattr(memory, "WORTH_COLLECTING", 1)
    monkeypatch.setattr(GraphWriter, "finish", finished)
    monkeypatch.setattr(saving, "deliver_graph", delivered)
    if not forgets:
        monkeypatch.setattr(memory, "forget_graphs", lambda: None)
    export(ExportOptions(ckpt=run, out=tmp_path / "model.onnx", threads=1))
    assert alive == [not forgets]


@pytest.mark.slow
def test_a_decoder_that_was_given_up_is_made_again_to_rank_its_linears(
    workshop: Any, run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finegates_export.pipeline import sensitivity

    ranked: list[Any] = []
    rank = sensitivity.rank_by_sensitivity

    def once(model: Any, *given: Any) -> list[str]:
        ranked.append(model)
        return rank(model, *given)

    judged = iter([False])
    add_file = Proof.add_file

    def failing(proof: Proof, name: str, *given: Any, **settings: Any) -> Any:
        from finegates_export.errors import ChainError

        link = add_file(proof, name, *given, **settings)
        if name.startswith("int8") and next(judged, True) is False:
            raise ChainError("predictions change too much")
        return link

    monkeypatch.setattr(sensitivity, "rank_by_sensitivity", once)
    monkeypatch.setattr(Proof, "add_file", failing)
    export(ExportOptions(ckpt=run, out=tmp_path / "bundle", quantize="int8", int8_linears="all", threads=1, **LENIENT))
    (model,) = ranked
    report = bundle_info(tmp_path / "bundle")["report"]
    assert len(report["quantized"]["left_in_float"]) == 1
    kept = [layer["feed_forward"]["neurons"] for layer in report["plan"]["layers"]]
    assert [len(layer.mlp.up_proj.weight) for layer in model.model.layers] == [len(neurons) for neurons in kept]
