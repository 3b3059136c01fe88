"""Rows, bases and options that do not fit a task are refused by name, before anything is trained or written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from safetensors.torch import load_file

from finegates_export import ExportOptions, export
from finegates_export.common.files import write_json
from finegates_export.common.tasks import TASKS
from finegates_export.common.tasks.pooling import Pooling, find_pooling
from finegates_export.errors import FineGatesError, InputError, UnsupportedError
from finegates_export.sources.base import find_base
from finegates_export.sources.run_folder import read_run
from finegates_trainer import TrainOptions, train
from finegates_trainer.learning.metrics import METRICS
from tests.tiny import tiny_base, tiny_run
from tests.tiny_models import ENCODER_FAMILIES, FAMILY_VARIANTS, IMAGE_VARIANTS

WORDS = {"tokens": ["a", "film"], "tags": ["O", "B"]}
QUESTION = {"question": "so ?", "context": "the film was great", "answer": "great", "answer_start": 13}
TEXT = {"text": "a film", "label": "1"}
SEVERAL = {"text": "a film", "labels": ["a", "b"]}
PAIR = {"sentence1": "a film", "sentence2": "a play", "score": 1.0}


def _train(base: Path, rows: list[dict[str, Any]], folder: Path, task: str, **more: Any) -> None:
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    train(
        TrainOptions(
            base=str(base), data=str(data), eval_data=str(data), out=folder / "run", task=task, max_steps=1, **more
        )
    )  # type: ignore[arg-type]  # a name of TASKS


ROWS: dict[str, tuple[str, list[dict[str, Any]], dict[str, Any], str]] = {
    "words and tags differ": (
        "token-classification", [WORDS, {**WORDS, "tags": ["O"]}], {}, "line 2 has 2 words but 1 tags",
    ),
    "words as a string": ("token-classification", [{"tokens": "a film", "tags": ["O", "B"]}], {}, "reads a list"),
    "no tags": ("token-classification", [{"tokens": ["a"]}], {}, r"no column label \(one of tags.*--label-column"),
    "one tag": ("token-classification", [{**WORDS, "tags": ["O", "O"]}], {}, "1 labels.*needs 2 or more"),
    "no label": ("classification", [TEXT, {**TEXT, "label": None}], {}, "line 2 has no label in column 'label'"),
    "a blank label": ("classification", [TEXT, {**TEXT, "label": " "}], {}, "line 2 has no label"),
    "no text": ("classification", [TEXT, {"text": None, "label": "0"}], {}, "line 2 has no text in column 'text'"),
    "no key for the text": ("classification", [TEXT, {"label": "0"}], {}, "line 2 has no text in column 'text'"),
    "no second text": ("embedding", [PAIR, {**PAIR, "sentence2": None}], {"pooling": "cls"}, "line 2 has no text in"),
    "labels for one": (
        "classification", [TEXT, {**TEXT, "label": ["a"]}], {}, r"line 2 has the list \['a'\] .*--task multi-label",
    ),
    "an object for a label": (
        "classification", [TEXT, {**TEXT, "label": {"a": "0"}}], {}, "line 2 has the object {'a': '0'} in column",
    ),
    "null among labels": (
        "multi-label", [SEVERAL, {**SEVERAL, "labels": ["a", None]}], {}, "line 2 has None among the values in",
    ),
    "a blank among labels": ("multi-label", [{**SEVERAL, "labels": ["a", ""]}], {}, "line 1 has '' among the values"),
    "labels in an object": ("multi-label", [{**SEVERAL, "labels": {"a": 1}}], {}, "line 1 has the object {'a': 1} in"),
    "null among tags": ("token-classification", [{**WORDS, "tags": ["O", None]}], {}, "line 1 has None among the val"),
    "null among words": ("token-classification", [{**WORDS, "tokens": ["a", None]}], {}, "None .* column 'tokens'"),
    "no answer": ("question-answering", [{**QUESTION, "answer": ""}], {}, "line 1 has no answer"),
    "answer elsewhere": ("question-answering", [{**QUESTION, "answer_start": 2}], {}, "'great' is not at 2"),
    "answer nowhere": (
        "question-answering", [{**QUESTION, "answer": "odd", "answer_start": None}], {}, "'odd' is not in its",
    ),
    "a word for a start": (
        "question-answering", [QUESTION, {**QUESTION, "answer_start": "x"}], {}, "line 2 has the start 'x' of an answ",
    ),
    "null in SQuAD's answer": (
        "question-answering", [{"question": "so ?", "context": "None", "answers": {"text": None}}], {}, "has no answer",
    ),
    "empty SQuAD answer": (
        "question-answering",
        [{"question": "so ?", "context": "a film", "answers": {"text": [], "answer_start": []}}],
        {},
        "has no answer",
    ),
    "answer cut off": ("question-answering", [QUESTION], {"max_length": 7}, "all 1 answers lie beyond.*--max-length"),
    "question too long": ("question-answering", [QUESTION], {"max_length": 5}, "fills the row of 5 tokens"),
    "no context": ("question-answering", [{"question": "so ?", "answer": "a"}], {}, "no column pair"),
    "one text": ("embedding", [{"sentence1": "a", "score": 1}], {"pooling": "cls"}, "no column pair"),
    "one score": ("embedding", [PAIR, PAIR], {"pooling": "mean"}, "all training pairs have the score 1"),
    "a word for a score": ("embedding", [{**PAIR, "score": "high"}], {"pooling": "mean"}, "line 1 has the score 'hig"),
    "no pooling": ("embedding", [PAIR], {}, "does not say how to pool its tokens.*--pooling mean or --pooling cls"),
    "no image folder": ("image-classification", [PAIR], {}, "has no head for the task 'image-classification'"),
}  # fmt: skip


@pytest.mark.parametrize("case", ROWS)
def test_rows_that_do_not_fit_are_told_in_one_line(base: Path, tmp_path: Path, case: str) -> None:
    task, rows, more, message = ROWS[case]
    with pytest.raises(FineGatesError, match=message) as caught:
        _train(base, rows, tmp_path, task, **more)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "feature-extraction"}, "task: feature-extraction has no head.*embedding"),
        ({"task": "poetry"}, "task: 'poetry' is not one of classification, multi-label"),
        ({"task": "regression", "pooling": "mean"}, "pooling: applies to embeddings, not to regression"),
        ({"task": "regression", "normalize": False}, "normalize: applies to embeddings"),
        ({"task": "embedding", "pooling": "max"}, "pooling: 'max' is not one of mean, cls"),
        ({"task": "embedding", "metric": "accuracy"}, "metric: 'accuracy' is not a metric of embedding"),
        ({"task": "token-classification", "class_weights": "balanced"}, "class-weights: .* token-classification has"),
    ],
)
def test_options_that_contradict_the_task_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, KeyError), match=message):
        TrainOptions(base="b", data="d", out=Path("o"), **options)


def test_the_tasks_that_options_offer_are_those_there_are() -> None:
    assert set(get_args(get_type_hints(TrainOptions)["task"])) == set(TASKS) == set(METRICS)


@pytest.mark.parametrize("task", ["classification", "question-answering", "token-classification"])
def test_a_head_that_a_family_lacks_is_refused_with_those_it_has(tmp_path: Path, task: str) -> None:
    base = find_base(str(tiny_base(tmp_path / "vit", "vit", layers=1)))
    with pytest.raises(UnsupportedError, match=f"'vit' has no head for the task '{task}'; it has feature-extraction"):
        base.check_task(task)
    base.check_task("image-classification")


@pytest.mark.parametrize("variant", ENCODER_FAMILIES)
def test_an_encoder_has_no_head_that_writes(tmp_path: Path, variant: str) -> None:
    """Every token would see the one that it is to foretell."""
    base = find_base(str(tiny_base(tmp_path / "base", variant, layers=1)))
    with pytest.raises(UnsupportedError, match=r"has no head for the task 'text-generation'; it has ") as told:
        base.check_task("text-generation")
    assert str(told.value).count("text-generation") == 1


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "wider": ({"hidden_size": 64}, r"tensor bert\.\S+ has shape \(32,\), but config.json asks for \(64,\)"),
    "fewer layers": ({"num_hidden_layers": 1}, r"weights hold bert.encoder.layer.1.* asks for 1 layers"),
    "more layers": ({"num_hidden_layers": 3}, r"asks for a tensor bert.encoder.layer.2\S+ of shape \(32,\)"),
    "more neurons": (
        {"intermediate_size": 96},
        r"intermediate.dense.bias has shape \(64,\), but config.json asks for \(96,\)",
    ),
    "more words": ({"vocab_size": 99}, r"word_embeddings.weight has shape \(64, 32\).*\(99, 32\)"),
}


@pytest.mark.parametrize("case", LIES)
def test_a_config_that_lies_about_its_weights_is_refused_and_not_drawn_anew(tmp_path: Path, case: str) -> None:
    changes, message = LIES[case]
    base = tiny_base(tmp_path / "base")
    run = tiny_run(tmp_path / "run", base, "none")
    find_base(str(base)).load("classification", ("one", "two", "three", "four", "five"))
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    write_json(base / "config.json", {**config, **changes})
    with pytest.raises(InputError, match=message):
        export(ExportOptions(ckpt=run, out=tmp_path / "out"))
    with pytest.raises(InputError, match=r"config\.json and weights disagree"):
        find_base(str(base)).load("embedding", (), Pooling("mean", True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("variant", FAMILY_VARIANTS)
def test_layers_that_a_config_leaves_out_are_seen_in_every_family(tmp_path: Path, variant: str) -> None:
    from transformers import AutoConfig

    base = tiny_base(tmp_path / "base", variant)
    config = AutoConfig.from_pretrained(base)
    config.num_hidden_layers = 1
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:1]
    config.save_pretrained(base)
    task = "image-classification" if variant in IMAGE_VARIANTS else "classification"
    with pytest.raises(InputError, match=r"the weights hold \S+\.1\.\S+, but config\.json asks for 1 layers"):
        find_base(str(base)).load(task, ("one", "two", "three"))


def store_beside(base: Path, existing: str, added: str) -> None:
    """Put a tensor into a base's weights, beside another that is called the same but for its end."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(base / "model.safetensors")
    name = next(name for name in tensors if name.endswith(existing))
    more = {name.removesuffix(existing) + added: torch.ones(len(tensors[name]))}
    save_file({**tensors, **more}, base / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("task", ["classification", "feature-extraction"])
def test_biases_that_a_config_leaves_out_are_not_dropped(tmp_path: Path, task: str) -> None:
    labels = ("one", "two") if task == "classification" else ()
    base = tiny_base(tmp_path / "base", "llama", layers=1)
    find_base(str(base)).load(task, labels)
    store_beside(base, "self_attn.k_proj.weight", "self_attn.k_proj.bias")
    with pytest.raises(InputError, match=r"weights hold \S+\.k_proj\.bias, which config\.json omits"):
        find_base(str(base)).load(task, labels)


def test_masks_that_old_bases_store_are_not_missed(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", "gpt2", layers=1)
    store_beside(base, "attn.c_attn.weight", "attn.masked_bias")
    find_base(str(base)).load("classification", ("one", "two"))


def test_an_activation_that_transformers_does_not_have_is_told(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", layers=1)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    write_json(base / "config.json", {**config, "hidden_act": "gelou"})
    with pytest.raises(InputError, match=r"config\.json names 'gelou', which transformers does not support"):
        find_base(str(base)).load("classification", ("one", "two"))


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq"])
def test_a_base_whose_weights_are_quantized_is_refused(base: Path, tmp_path: Path, method: str) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, "quantization_config": {"quant_method": method}})
    with pytest.raises(UnsupportedError, match=rf"weights are stored quantized \({method}\); use the unquantized base"):
        find_base(str(folder)).load("classification", ("one", "two", "three"))


@pytest.mark.parametrize("variant", ["bert", "roberta", "electra"])
def test_positions_that_transformers_would_pass_over_are_refused(tmp_path: Path, variant: str) -> None:
    base = tiny_base(tmp_path / "base", variant)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    write_json(base / "config.json", {**config, "position_embedding_type": "absolute"})
    assert find_base(str(base)).family().model_types[0] == variant
    write_json(base / "config.json", {**config, "position_embedding_type": "relative_key"})
    with pytest.raises(UnsupportedError, match=r"position_embedding_type 'relative_key'.*supported is 'absolute'"):
        find_base(str(base)).family()


@pytest.mark.parametrize(
    ("scaling", "served"),
    [
        ({"type": "dynamic", "factor": 2.0}, False),
        ({"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}, False),
        ({"rope_type": "linear", "factor": 2.0}, True),
    ],
)
def test_angles_that_depend_on_the_length_are_refused(tmp_path: Path, scaling: dict[str, Any], served: bool) -> None:
    base = tiny_base(tmp_path / "base", "llama", layers=1)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config.pop("rope_parameters", None)
    write_json(base / "config.json", {**config, "rope_scaling": scaling})
    found = find_base(str(base))
    if served:
        assert found.family().name == "llama"
    else:
        kind = scaling.get("type") or scaling["rope_type"]
        with pytest.raises(UnsupportedError, match=rf"rotary angles depend on a text's length \(rope_type '{kind}'\)"):
            found.family()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": "32"}, r"no usable config\.json \(.*'hidden_size' expected int, got str"),
        ({"hidden_act": None}, r"no usable config\.json \(.*'hidden_act' expected str, got NoneType"),
    ],
)
def test_a_config_of_other_types_is_refused_in_one_line(
    base: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, **changes})
    with pytest.raises(InputError, match=message) as caught:
        find_base(str(folder)).family()
    assert "\n" not in str(caught.value)


def test_only_the_head_is_drawn_anew(base: Path) -> None:
    model = find_base(str(base)).load("token-classification", ("O", "B", "I", "E"))
    stored = load_file(base / "model.safetensors")
    kept = {name: tensor for name, tensor in model.named_parameters() if not name.startswith("classifier")}
    assert all(bool((tensor == stored[name]).all()) for name, tensor in kept.items())
    assert model.classifier.weight.shape[0] == 4 != stored["classifier.weight"].shape[0]


def test_an_embedding_run_without_pooling_is_refused_before_its_tensors_are_read(base: Path, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", base, "none", task="embedding")
    assert read_run(run).info.pooled_by() == Pooling("mean", True)
    values = json.loads((run / "run.json").read_text(encoding="utf-8"))
    write_json(run / "run.json", {**values, "pooling": None})
    (run / "samples.safetensors").write_bytes(b"not read")
    with pytest.raises(InputError, match=r"does not say how to pool its tokens; train again with --pooling mean"):
        export(ExportOptions(ckpt=run, out=tmp_path / "out"))


def test_run_folders_of_before_there_were_poolings_are_read(base: Path, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", base, "none")
    values = json.loads((run / "run.json").read_text(encoding="utf-8"))
    write_json(
        run / "run.json", {name: value for name, value in values.items() if name not in ("pooling", "normalize")}
    )
    assert read_run(run).info.pooled_by() is None


def _pooled_base(base: Path, folder: Path, modes: dict[str, Any], modules: tuple[str, ...]) -> Path:
    shutil.copytree(base, folder)
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **modes})
    write_json(folder / "modules.json", [{"type": f"sentence_transformers.models.{name}"} for name in modules])
    return folder


POOLINGS: dict[str, tuple[dict[str, Any], tuple[str, ...], Pooling]] = {
    "mean": ({"pooling_mode_mean_tokens": True}, ("Transformer", "Pooling"), Pooling("mean", False)),
    "cls": (
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
        ("Transformer", "Pooling", "Normalize"),
        Pooling("cls", True),
    ),
    "by name": ({"pooling_mode": "mean"}, ("Transformer", "Pooling", "Normalize"), Pooling("mean", True)),
}


@pytest.mark.parametrize("case", POOLINGS)
def test_the_base_says_how_it_pools_and_the_user_has_the_last_word(base: Path, tmp_path: Path, case: str) -> None:
    modes, modules, expected = POOLINGS[case]
    folder = _pooled_base(base, tmp_path / "base", modes, modules)
    assert find_pooling(None, None, "base", folder) == expected
    other = "cls" if expected.mode == "mean" else "mean"
    assert find_pooling(other, not expected.normalize, "base", folder) == Pooling(other, not expected.normalize)


@pytest.mark.parametrize(
    ("modes", "modules", "message"),
    [
        ({"pooling_mode_max_tokens": True}, ("Transformer", "Pooling"), "pools by max_tokens"),
        ({"pooling_mode": "lasttoken"}, ("Transformer", "Pooling"), "pools by lasttoken"),
        (
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            ("Transformer", "Pooling"),
            "pools by mean_tokens, cls_token",
        ),
        ({"pooling_mode_mean_tokens": True}, ("Transformer", "Pooling", "Dense"), "Dense module.*would be lost"),
    ],
)
def test_a_pooling_that_is_not_served_is_refused(
    base: Path, tmp_path: Path, modes: dict[str, Any], modules: tuple[str, ...], message: str
) -> None:
    folder = _pooled_base(base, tmp_path / "base", modes, modules)
    for normalize in (None, True, False):
        with pytest.raises(UnsupportedError, match=message):
            find_pooling(None, normalize, "base", folder)


@pytest.mark.parametrize("content", ["[]", "null", "{"])
def test_a_damaged_pooling_is_named(base: Path, tmp_path: Path, content: str) -> None:
    folder = _pooled_base(base, tmp_path / "base", {}, ("Transformer", "Pooling"))
    (folder / "1_Pooling" / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"1_Pooling/config\.json is damaged"):
        find_pooling(None, None, "base", folder)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "vit", "vit", layers=1)
    for name in ("red", "blue"):
        (tmp_path / "images" / "train" / name).mkdir(parents=True)
        (tmp_path / "images" / "train" / name / "1.png").write_bytes(b"no picture")
    options = TrainOptions(
        base=str(base), data=str(tmp_path / "images"), eval_data=str(tmp_path / "images"), out=tmp_path / "run",
        task="image-classification",
    )  # fmt: skip
    with pytest.raises(InputError, match=r"1\.png cannot be read as an image"):
        train(options)
    shutil.rmtree(tmp_path / "images" / "train" / "red")
    (tmp_path / "images" / "train" / "blue" / "1.png").rename(tmp_path / "images" / "train" / "1.png")
    with pytest.raises(InputError, match="holds no images in folders named after their class"):
        train(options)
