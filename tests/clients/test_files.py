"""What is written into a bundle for clients alone."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import AutoTokenizer
from transformers.exporters.base import ExportedModel

from finegates_export.common.tasks.pooling import Pooling, find_pooling
from finegates_export.common.text_inputs import TextInputs
from finegates_export.common.tokenizer_files import copy_tokenizer_file
from finegates_export.errors import RunFolderError
from finegates_export.pipeline.bundle.pooling_files import write_pooling_files
from tests.tiny import LORA, tiny_tokenizer

OUTPUT_CLASSES = {
    "question-answering": "QuestionAnsweringModelOutput",
    "token-classification": "TokenClassifierOutput",
    "image-classification": "ImageClassifierOutput",
    "embedding": "dict",
}
"""What `ExportedModel` returns by task. Embeddings are pooled in the graph here, and no class has a place for those."""
SIZES = {"batch": 2, "sequence": 5}


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("mode", ["mean", "cls"])
def test_pooling_files_say_what_the_run_says(tmp_path, mode, normalize):
    for name in ("once", "again"):
        (tmp_path / name).mkdir()
        write_pooling_files(tmp_path / name, pooling=mode, normalize=normalize, hidden_size=30, max_length=17)
    files = files_of(tmp_path / "once")
    assert files == files_of(tmp_path / "again")
    assert find_pooling(None, None, "a bundle", tmp_path / "once") == Pooling(mode, normalize)
    assert ("2_Normalize/config.json" in files) == normalize
    assert json.loads(files["sentence_bert_config.json"])["max_seq_length"] == 17
    assert json.loads(files["1_Pooling/config.json"])["word_embedding_dimension"] == 30
    folders = [path.name for path in (tmp_path / "once").iterdir() if path.is_dir()]
    assert sorted(folders) == ["1_Pooling", *(["2_Normalize"] if normalize else [])]


def test_a_tokenizer_of_transformers_5_is_written_in_words_of_4_and_reads_the_same(tmp_path):
    saved, bundle = tmp_path / "saved", tmp_path / "bundle"
    bundle.mkdir()
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<one>", "<two>"]})
    tokenizer.save_pretrained(saved)
    before = json.loads((saved / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert before["tokenizer_class"] == "TokenizersBackend"  # or there is nothing to mend
    assert before["extra_special_tokens"] == ["<one>", "<two>"]
    for file in saved.iterdir():
        copy_tokenizer_file(file, bundle, TextInputs(9))
    after = json.loads((bundle / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert after["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert after["additional_special_tokens"] == ["<one>", "<two>"]
    assert not {"extra_special_tokens", "is_local", "local_files_only", "name_or_path"} & set(after)
    text = "a great <one> film " * 5
    ours, theirs = (AutoTokenizer.from_pretrained(folder) for folder in (bundle, saved))
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours.all_special_tokens == theirs.all_special_tokens
    assert len(ours(text, truncation=True)["input_ids"]) == 9 < len(theirs(text, truncation=True)["input_ids"])


def test_a_damaged_tokenizer_config_is_refused_by_name(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "tokenizer_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"tokenizer_config\.json is damaged .*; copy the base's tokenizer files"):
        copy_tokenizer_file(tmp_path / "tokenizer_config.json", tmp_path / "bundle", TextInputs(9))
    assert files_of(tmp_path / "bundle") == {}


@pytest.mark.slow
@pytest.mark.parametrize("task", OUTPUT_CLASSES)
def test_exported_model_returns_the_class_of_the_task(task, workshop):
    base = {"variant": "vit"} if task == "image-classification" else {}
    run = workshop.run("coupled", LORA, task=task, layers=1, **base)
    bundle = workshop.bundle(run, pool_in_graph=task == "embedding")
    session = onnxruntime.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"])
    feed = {}
    for value in session.get_inputs():
        shape = [SIZES.get(size, size) for size in value.shape]
        feed[value.name] = np.ones(shape, np.int64 if value.type == "tensor(int64)" else np.float32)
    outputs = ExportedModel.from_pretrained(bundle)(**{name: torch.from_numpy(value) for name, value in feed.items()})
    assert type(outputs).__name__ == OUTPUT_CLASSES[task]
    expected = dict(zip([value.name for value in session.get_outputs()], session.run(None, feed), strict=True))
    assert list(outputs) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(outputs[name].numpy(), values, atol=1e-6)


@pytest.mark.slow
def test_a_score_stays_a_number_for_sentence_transformers(workshop):
    def config_of(run):
        return json.loads((workshop.bundle(run) / "config.json").read_text(encoding="utf-8"))

    score = config_of(workshop.run("coupled", LORA, labels=1, layers=1))
    assert score["sentence_transformers"]["activation_fn"] == "torch.nn.modules.linear.Identity"
    assert "sentence_transformers" not in config_of(workshop.run("coupled", LORA, layers=1))
