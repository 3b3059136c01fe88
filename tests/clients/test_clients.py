"""Programs that nobody here wrote load a bundle and compute what the gated model computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from finegates_export import load
from finegates_export.common.tasks import LOGITS, SENTENCE
from tests.clients.harness import OUTPUTS, Client, ask, difference, reference, tokenized
from tests.export.compare import REJECTED, TOLERANCE
from tests.tiers import tiered
from tests.tiny import LORA, MAX_LENGTH

LONG = " ".join(["the play was very sad and told so"] * 6)
"""More tokens than a row has."""
PAIRS = [["a great film", "the story is told"], ["awful", "so"], ["rather new and odd .", "fine"]]
SINGLES = [["a great film"], ["so"], ["the song is rather sad and the ending was told"]]
INT8 = {"quantize": "int8", "min_agreement": 0.8, "max_metric_loss": 20.0}
OTHER_GATES = {"qk": 0.5, "vo": 0.0, "ffn": 0.6}
RUNS: dict[str, dict[str, Any]] = {
    "classification": {},
    "regression": {"labels": 1, "layers": 1},
    "reranking": {"task": "reranking", "layers": 1},
    "embedding": {"task": "embedding", "layers": 1},
}
BUNDLES: dict[str, dict[str, Any]] = {
    "model.onnx": {},
    "two graphs": INT8,
    "onnx/model.onnx": {"onnx_folder": True},
    "two under onnx/": {"onnx_folder": True, **INT8},
}
"""How a bundle is laid out. Where there are two graphs, a client has to find the float32 one."""

OPTIMUM, SENTENCES, EXPORTERS = "optimum_client.py", "sentence_transformers_client.py", "exporters_client.py"
OPENVINO = Client("openvino_client.py", "openvino", "graph")
OLDER = Client("onnxruntime_client.py", "onnxruntime", "graph")
NODE, TRANSFORMERS_JS = "node/onnxruntime.mjs", "node/transformers.mjs"


@dataclass(frozen=True)
class Case:
    """A client, and what it is given."""

    client: Client
    run: str
    layout: str = "model.onnx"
    longest: bool = True
    """Whether one text is longer than a row; the client has to cut it."""

    def __str__(self) -> str:
        return f"{self.client}, {self.run}, {self.layout}"

    @property
    def output(self) -> str:
        """What is compared."""
        return OUTPUTS.get(self.client.kind) or (SENTENCE if self.run == "embedding" else LOGITS)


CASES = (
    Case(Client(OPTIMUM, "optimum", "sequence-classification"), "classification", "two graphs"),
    Case(Client(OPTIMUM, "optimum", "feature-extraction"), "embedding", "onnx/model.onnx"),
    Case(Client(SENTENCES, "optimum", "cross-encoder"), "classification", "two graphs"),
    Case(Client(SENTENCES, "optimum", "cross-encoder"), "regression", "onnx/model.onnx"),
    Case(Client(SENTENCES, "optimum", "cross-encoder"), "reranking"),
    Case(Client(SENTENCES, "optimum", "sentence-transformer"), "embedding"),
    Case(Client(SENTENCES, "optimum", "sentence-transformer"), "embedding", "onnx/model.onnx"),
    Case(Client(EXPORTERS, "own", "sequence-classification"), "classification", "two graphs"),
    Case(Client(EXPORTERS, "own", "feature-extraction"), "embedding", "onnx/model.onnx"),
    Case(OPENVINO, "classification", "two graphs"),
    Case(OLDER, "classification", "two graphs"),
    Case(Client(NODE, "node", "graph"), "classification", "two graphs"),
    Case(
        Client(TRANSFORMERS_JS, "node", "sequence-classification"), "classification", "two under onnx/", longest=False
    ),
    Case(Client(TRANSFORMERS_JS, "node", "feature-extraction"), "embedding", "onnx/model.onnx", longest=False),
    Case(Client(TRANSFORMERS_JS, "node", "sentence-embedding"), "embedding", "onnx/model.onnx", longest=False),
)
NEARBY = [case for case in CASES if case.client.environment == "own"][:1]
"""One that needs no environment beside that of the tests, so `make test` can run it."""
FUSED_FORMS: dict[str, dict[str, Any]] = {
    "Attention": {"gates": {"ffn": 0.3}, "heads": 2},
    "MultiHeadAttention": {},
    "MultiHeadAttention with a position bias": {"variant": "mpnet"},
    "MultiHeadAttention behind rotation": {"variant": "modernbert"},
}
"""Runs whose graphs hold every operator that fusion puts in."""


def question_of(case, run):
    texts = PAIRS if case.output == LOGITS else SINGLES
    longest = [[LONG] * len(texts[0])] if case.longest else []
    return tokenized(run, [*texts, *longest], MAX_LENGTH)


def distance(case, bundle, run, scratch):
    """How far a client's answer on a bundle is from what the gated model of a run says."""
    question = question_of(case, run)
    given = ask(case.client, bundle, question, scratch)
    return difference(reference(run, question, case.output), given, question)


@pytest.mark.parametrize("case", tiered(CASES, default=NEARBY), ids=str)
def test_a_client_computes_what_the_gated_model_computes(case, workshop, tmp_path, record_property):
    case.client.command()  # skips before anything is exported
    run = workshop.run("coupled", LORA, **RUNS[case.run])
    other = workshop.run("coupled", LORA, gates=OTHER_GATES, **RUNS[case.run])
    far = distance(case, workshop.bundle(run, **BUNDLES[case.layout]), run, tmp_path)
    record_property("difference", far)
    assert far < TOLERANCE
    assert distance(case, workshop.bundle(other, **BUNDLES[case.layout]), run, tmp_path) > REJECTED


@pytest.mark.parametrize("form", FUSED_FORMS)
def test_openvino_reads_every_fused_operator(form, workshop, tmp_path, record_property):
    OPENVINO.command()
    run = workshop.run("coupled", LORA, **{"layers": 1, **FUSED_FORMS[form]})
    bundle = workshop.bundle(run)
    operators = {node.op_type for node in nodes_of(bundle) if node.domain == "com.microsoft"}
    assert form.split()[0] in operators
    far = distance(Case(OPENVINO, "classification"), bundle, run, tmp_path)
    record_property("difference", far)
    assert far < TOLERANCE


@pytest.mark.parametrize(
    "client",
    [OLDER, Client(NODE, "node", "graph"), Client(TRANSFORMERS_JS, "node", "sequence-classification")],
    ids=["onnxruntime", "onnxruntime-node", "transformers.js"],
)
def test_a_client_takes_the_int8_graph_where_asked(client, workshop, tmp_path):
    client.command()
    layout = "two under onnx/" if client.script == TRANSFORMERS_JS else "two graphs"
    run = workshop.run("coupled", LORA)
    bundle = workshop.bundle(run, **BUNDLES[layout])
    question = tokenized(run, PAIRS, MAX_LENGTH)
    pairs = [tuple(pair) for pair in PAIRS]
    int8, float32 = (load(bundle, form=form, threads=1).logits(pairs) for form in ("int8", "float"))
    given = ask(client, bundle, question, tmp_path, quantized=True)
    assert difference(int8, given, question) < TOLERANCE
    assert difference(float32, given, question) > TOLERANCE


def nodes_of(bundle):
    import onnx

    return onnx.load(bundle / "model.onnx").graph.node
