"""Every task learns, is exported under the chain, and predicts from the bundle what the gated model predicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finegates_export import ExportOptions, export, load, verify
from finegates_export.common.tasks import NO_LABEL
from finegates_export.errors import ChainError, InputError
from finegates_export.runtime import Answer, LabelSet
from finegates_export.runtime.reading import windows_of
from finegates_export.sources.assemble import assemble, base_of
from finegates_export.sources.run_folder import Run, read_run
from finegates_trainer import TrainOptions, train
from tests.tiny import LABELS, OPINIONS, labelled_texts, tiny_tokenizer

SETTINGS: dict[str, Any] = {
    "max_steps": 150, "batch_size": 8, "max_length": 32, "lora_rank": 4, "learning_rate": 1e-2, "target_removed": 0.3,
}  # fmt: skip
CHANCE = {
    "multi-label": ("f1_micro", 0.5),
    "token-classification": ("entity_f1", 0.5),
    "question-answering": ("exact_match", 0.2),
    "embedding": ("spearman", 0.1),
    "image-classification": ("accuracy", 0.5),
    "reranking": ("mrr@10", 0.75),
}
"""The default metric of each task, and what guessing reaches at most."""


class Trained:
    """Runs and bundles by task, each made once."""

    def __init__(self, root: Path, base: Path, image_base: Path, rows: dict[str, Path]) -> None:
        self.root, self.rows, self.bases = root, rows, {"image-classification": image_base}
        self.base = base

    def run(self, task: str) -> Run:
        """A short training of the task."""
        out = self.root / task
        if not out.exists():
            more = {"pooling": "mean", "normalize": True} if task == "embedding" else {}
            home = self.bases.get(task, self.base)
            train(TrainOptions(base=str(home), data=str(self.rows[task]), out=out, task=task, **SETTINGS, **more))  # type: ignore[arg-type]  # a name of TASKS
        return read_run(out)

    def bundle(self, task: str, **options: Any) -> Path:
        """Its export."""
        out = self.root / f"{task}-bundle{len(options)}"
        if not out.exists():
            export(ExportOptions(ckpt=self.run(task).folder, out=out, threads=1, **options))
        return out


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, base: Path, image_base: Path, task_rows: dict[str, Path]
) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained"), base, image_base, task_rows)


def gated_outputs(run: Run, *texts: Any, **settings: Any) -> Any:
    """What the gated model gives for one text, without padding."""
    encoded = tiny_tokenizer()(*texts, return_tensors="pt", truncation=True, max_length=32, **settings)
    with torch.no_grad():
        return assemble(run, base_of(run)).gated(**encoded)


@pytest.mark.parametrize("task", CHANCE)
def test_a_run_learns_its_task_and_ends_at_its_share(trained: Trained, task: str) -> None:
    run = trained.run(task)
    metric, chance = CHANCE[task]
    assert run.info.metric == metric
    assert run.info.metrics[metric] > chance
    assert run.info.removed == pytest.approx(0.3, abs=0.02)
    assert (run.info.pooling, run.info.normalize) == (("mean", True) if task == "embedding" else (None, False))
    assert bool(run.head) == (task != "embedding")


@pytest.mark.slow
@pytest.mark.parametrize("task", CHANCE)
def test_the_chain_holds_on_the_runs_own_rows_and_knows_their_metric(trained: Trained, task: str) -> None:
    report = json.loads((trained.bundle(task) / "bundle.json").read_text(encoding="utf-8"))["report"]
    assert report["real_rows"] > 0
    links = [link for link in report["links"] if link["name"] != "texts, as delivered"]
    assert [link["name"] for link in links][-1] == "ONNX, as delivered"
    assert all(link["relative"] < 1e-4 and link["agreement"] == pytest.approx(1.0) for link in links)
    assert all(link["metric"] is not None and link["metric_lost"] == pytest.approx(0.0, abs=1e-5) for link in links)
    run = trained.run(task)
    assert report["metric"] == run.info.metric
    told = run.info.metrics[run.info.metric]
    kept = run.info.data["eval_rows"] * (2 if task == "embedding" else 1)
    assert report["real_rows"] == kept
    assert links[0]["metric"] == pytest.approx(told, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("task", CHANCE)
def test_verify_accepts_the_bundle_and_refuses_another_runs(trained: Trained, task: str, tmp_path: Path) -> None:
    run = trained.run(task)
    assert verify(run.folder, trained.bundle(task), threads=1)[0].relative < 1e-4
    more: dict[str, Any] = {"pooling": "mean"} if task == "embedding" else {}
    home = trained.bases.get(task, trained.base)
    other = train(
        TrainOptions(
            base=str(home),
            data=str(trained.rows[task]),
            out=tmp_path / "other",
            task=task,
            max_steps=2,
            **more,  # type: ignore[arg-type]  # a name of TASKS
        )
    )
    with pytest.raises(ChainError, match=r"differs from the gated model|gives .* of shape"):
        verify(other.folder, trained.bundle(task), threads=1)


@pytest.mark.slow
@pytest.mark.parametrize("task", CHANCE)
def test_the_bench_scores_a_graph_as_training_scored_the_model(trained: Trained, task: str, tmp_path: Path) -> None:
    from finegates_bench.measuring.quality import evaluation_rows, graph_metric

    run = trained.run(task)
    names = base_of(run).family().input_names(base_of(run).config())
    rows = evaluation_rows(run, names, None)
    assert rows.examples is not None, rows.words
    assert len(rows.examples) == run.info.data["eval_rows"]
    found = graph_metric(trained.bundle(task) / "model.onnx", rows.examples, run, 1)
    assert found == pytest.approx(run.info.metrics[run.info.metric], abs=1e-3)
    other = evaluation_rows(run, names, str(_other_rows(trained.rows[task], tmp_path)))
    assert other.examples is not None
    assert len(other.examples) != len(rows.examples)


def _other_rows(rows: Path, folder: Path) -> Path:
    """Fewer rows than a run evaluates on."""
    if rows.is_dir():
        return rows / "train"
    path = folder / "rows.jsonl"
    path.write_text("\n".join(rows.read_text(encoding="utf-8").splitlines()[:3]) + "\n", encoding="utf-8")
    return path


@pytest.mark.slow
def test_several_labels_are_those_above_one_half(trained: Trained, task_rows: dict[str, Path]) -> None:
    rows = [json.loads(line) for line in task_rows["multi-label"].read_text(encoding="utf-8").splitlines()]
    run = trained.run("multi-label")
    found = load(trained.bundle("multi-label"), threads=1).predict([row["text"] for row in rows], batch_size=7)
    assert all(isinstance(one, LabelSet) for one in found)
    for row, one in zip(rows[:8], found, strict=False):
        expected = gated_outputs(run, row["text"]).logits[0].sigmoid()
        assert one.scores == pytest.approx(dict(zip(run.info.labels, expected.tolist(), strict=True)), abs=1e-5)
        assert one.labels == tuple(name for name, score in one.scores.items() if score > 0.5)
    assert {len(one.labels) for one in found} >= {0, 1, 2}


@pytest.mark.slow
def test_words_get_the_label_of_their_first_piece_where_they_stand(trained: Trained) -> None:
    run = trained.run("token-classification")
    predictor = load(trained.bundle("token-classification"), threads=1)
    text = "the films was awful and rather lovely"
    from_text, from_words = predictor.predict([text])[0], predictor.predict([text.split(), ["awful"]])[0]
    assert [word.text for word in from_text] == text.split()
    assert all(text[word.start : word.end] == word.text for word in from_text)
    assert [word.label for word in from_text] == [word.label for word in from_words]
    encoded = tiny_tokenizer()(text)
    assert len(encoded["input_ids"]) > len(text.split()) + 2, "no word was cut into pieces"
    firsts = [encoded.word_ids().index(word) for word in range(len(text.split()))]
    expected = gated_outputs(run, text).logits[0].softmax(-1)[firsts]
    assert [word.label for word in from_text] == [run.info.labels[i] for i in expected.argmax(-1)]
    np.testing.assert_allclose([word.score for word in from_text], expected.max(-1).values, atol=1e-5)
    assert {word.text: word.label for word in from_text}["awful"] == "bad"
    with pytest.raises(InputError, match="mixed"):
        predictor.predict([text, text.split()])


def best_answer(run: Run, question: str, text: str) -> tuple[str, float]:
    """The best answer of the gated model, by trying every pair of first and last token."""
    encoded = tiny_tokenizer()(question, text, return_offsets_mapping=True)
    own = [i for i, number in enumerate(encoded.sequence_ids()) if number == 1]
    outputs = gated_outputs(run, question, text)
    start, end = (logits[0][own].softmax(-1).tolist() for logits in (outputs.start_logits, outputs.end_logits))
    score, first, last = max((start[i] * end[j], i, j) for i in range(len(own)) for j in range(i, len(own)))
    offsets = encoded["offset_mapping"]
    return text[offsets[own[first]][0] : offsets[own[last]][1]], score


@pytest.mark.slow
def test_answers_are_the_best_in_the_text_and_stand_where_they_say(trained: Trained) -> None:
    predictor, run = load(trained.bundle("question-answering"), threads=1), trained.run("question-answering")
    question = "so was the film ?"
    texts = [text for text, _ in labelled_texts(16)]
    found = predictor.predict([(question, text) for text in texts], batch_size=7)
    for text, one in zip(texts, found, strict=True):
        assert isinstance(one, Answer)
        assert text[one.start : one.end] == one.text
        expected, score = best_answer(run, question, text)
        assert (one.text, one.score) == (expected, pytest.approx(score, abs=1e-5))
    opinions = sum(one.text in words for one, words in zip(found, OPINIONS[:3] * 6, strict=False))
    assert opinions > len(texts) / 3, "the model has learned nothing that could be compared"


@pytest.mark.slow
def test_the_best_answer_of_all_windows_of_a_long_text_is_given(trained: Trained) -> None:
    predictor, run = load(trained.bundle("question-answering"), threads=1), trained.run("question-answering")
    gated = assemble(run, base_of(run)).gated
    question, behind = "so was the film ?", 0
    for word in ("awful", "usual", "lovely"):
        text = "the song was told and the play is " * 8 + word
        candidates = []
        for window in windows_of(tiny_tokenizer()(question, text)[0], 32):
            with torch.no_grad():
                outputs = gated(**{name: torch.tensor([ids]) for name, ids in inputs_of(window).items()})
            own = [i for i, number in enumerate(window.sequence_ids) if number == 1]
            start, end = outputs.start_logits[0].double(), outputs.end_logits[0].double()
            candidates += [
                (float(start[i] + end[j]), window.offsets[i][0], window.offsets[j][1])
                for i in own
                for j in own
                if i <= j
            ]
        found = predictor.predict([(question, text)])[0]
        assert (found.start, found.end) == max(candidates)[1:]
        behind += found.start > len("the song was told and the play is " * 3)
    assert behind, "no answer stands behind the first window"


def inputs_of(window: Any) -> dict[str, list[int]]:
    """A window as a model reads it."""
    return {"input_ids": window.ids, "attention_mask": window.attention_mask, "token_type_ids": window.type_ids}


@pytest.mark.slow
def test_what_is_no_question_is_refused(trained: Trained) -> None:
    predictor = load(trained.bundle("question-answering"), threads=1)
    assert predictor.predict([("so was the film ?", "")])[0] == Answer("", 0.0, 0, 0)
    for wrong in (["a text"], [("one", "two", "three")]):
        with pytest.raises(InputError, match="pairs"):
            predictor.predict(wrong)
    with pytest.raises(InputError, match="no room"):
        predictor.predict([("so was the film ? " * 20, "awful")])
    with pytest.raises(InputError, match="has no logits"):
        predictor.logits([("so ?", "a film")])


@pytest.mark.slow
@pytest.mark.parametrize("pool_in_graph", [False, True])
def test_embeddings_are_those_of_the_gated_model_whoever_pools(trained: Trained, pool_in_graph: bool) -> None:
    options: dict[str, Any] = {"pool_in_graph": True} if pool_in_graph else {}
    predictor = load(trained.bundle("embedding", **options), threads=1)
    texts = [text for text, _ in labelled_texts(12)]
    found = np.stack(predictor.predict(texts, batch_size=5))
    expected = [gated_outputs(trained.run("embedding"), text).sentence_embedding[0].numpy() for text in texts]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1.0, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.slow
def test_images_are_classified_from_pixels(trained: Trained, task_rows: dict[str, Path]) -> None:
    from PIL import Image

    from finegates_export.sources.base import find_base

    run = trained.run("image-classification")
    processor = find_base(str(run.info.base_id)).image_processor()
    files = sorted(task_rows["image-classification"].glob("dev/*/*.png"))
    pixels = processor(images=[Image.open(file) for file in files], return_tensors="np")["pixel_values"]
    predictor = load(trained.bundle("image-classification"), threads=1)
    found = predictor.predict(pixels, batch_size=5)
    right = [one.label == file.parent.name for one, file in zip(found, files, strict=True)]
    assert np.mean(right) == pytest.approx(run.info.metrics["accuracy"])
    with pytest.raises(InputError, match=r"shape \(16, 16, 3\).*takes \(3, 16, 16\)"):
        predictor.predict([np.zeros((16, 16, 3))])


def test_samples_hold_every_label_in_its_tasks_form(trained: Trained) -> None:
    shapes = {task: {name: tuple(t.shape) for name, t in (trained.run(task).samples or {}).items()} for task in CHANCE}
    rows = {task: trained.run(task).info.data["eval_rows"] for task in CHANCE}
    assert shapes["multi-label"]["labels"] == (rows["multi-label"], 3)
    assert shapes["question-answering"]["labels"] == (rows["question-answering"], 2)
    assert shapes["token-classification"]["labels"] == shapes["token-classification"]["input_ids"]
    assert shapes["embedding"]["labels"] == (rows["embedding"],)
    assert shapes["embedding"]["input_ids"][0] == 2 * rows["embedding"]
    assert shapes["image-classification"] == {"pixel_values": (24, 3, 16, 16), "labels": (24,)}
    samples = trained.run("token-classification").samples or {}
    assert int((samples["labels"] != NO_LABEL).sum()) < int(samples["attention_mask"].sum())


@pytest.mark.slow
def test_config_names_the_head_and_its_labels(trained: Trained) -> None:
    told = {task: json.loads((trained.bundle(task) / "config.json").read_text(encoding="utf-8")) for task in CHANCE}
    assert {task: config["architectures"] for task, config in told.items()} == {
        "multi-label": ["BertForSequenceClassification"],
        "token-classification": ["BertForTokenClassification"],
        "question-answering": ["BertForQuestionAnswering"],
        "embedding": ["BertModel"],
        "image-classification": ["ViTForImageClassification"],
        "reranking": ["BertForSequenceClassification"],
    }
    assert told["multi-label"]["problem_type"] == "multi_label_classification"
    assert set(told["token-classification"]["label2id"]) == {*LABELS[:2], "O"}
    assert not {"id2label", "problem_type"} & set(told["question-answering"])
