"""What `config.json` says of another machine is overruled or refused in one line, and sizes are held to the weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from finegates_export.common.files import write_json
from finegates_export.errors import FineGatesError
from finegates_export.sources.base import find_base
from finegates_export.sources.base_config import COUNTS, OVERRULED
from finegates_export.sources.shared_base import SharedBase
from tests.tiny import LABELS, tiny_base

ELSEWHERE: dict[str, dict[str, Any]] = {
    "flash attention": {"attn_implementation": "flash_attention_2"},
    "flash attention as saved": {"_attn_implementation": "flash_attention_3"},
    "a kernel of the hub": {"attn_implementation": "some-org/some-kernel"},
    "attention of no text": {"attn_implementation": {"": "flex"}},
    "half precision": {"dtype": "bfloat16", "torch_dtype": "float16"},
    "a type that torch lacks": {"dtype": "evil"},
    "a type as an object": {"torch_dtype": {"a": 1}},
    "tuples": {"return_dict": False},
    "hidden states": {"output_hidden_states": True, "output_attentions": True},
    "a map of devices": {"device_map": {"": "cuda:7"}, "max_memory": {"0": "1GB"}},
    "a plan over processes": {"tp_plan": "auto"},
    "torchscript": {"torchscript": True},
    "code of the hub": {"auto_map": {"AutoModel": "evil.Model"}},
    "checkpointing": {"gradient_checkpointing": True},
    "a place": {"_name_or_path": "/nowhere", "_commit_hash": "0"},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no kind": ({"model_type": None}, "model_type is None, not a name"),
    "a list of kinds": ({"model_type": ["bert"]}, r"model_type is \['bert'\], not a name"),
    "an unknown kind": ({"model_type": "bart-next"}, "'bart-next' is not supported"),
    "no heads": ({"num_attention_heads": 0}, "num_attention_heads 0, which is not in 1 to"),
    "heads that do not divide": ({"num_attention_heads": 5}, "config.json|weights cannot be loaded"),
    "layers below zero": ({"num_hidden_layers": -1}, "num_hidden_layers -1"),
    "ten million layers": ({"num_hidden_layers": 10_000_000}, "num_hidden_layers 10,000,000"),
    "a thousand layers": ({"num_hidden_layers": 1000}, "asks for 1,000 layers, but the weights hold 1"),
    "ten million words": ({"vocab_size": 10_000_000}, "asks for 320,.* values, but the weights hold"),
    "words without end": ({"vocab_size": 10**30}, "vocab_size 1,000,.*which is not in"),
    "huge neurons": ({"intermediate_size": 1 << 20}, "values, but the weights hold"),
    "padding beyond the words": ({"pad_token_id": 5000}, "pad_token_id 5,000, but vocab_size"),
    "numbers in words": ({"num_hidden_layers": "2"}, "config.json"),
    "an activation of none": ({"hidden_act": "gelou"}, "'gelou'"),
    "a list of labels": ({"id2label": ["a", "b"]}, "config.json"),
    "labels by name": ({"id2label": {"x": "a"}}, "config.json"),
    "heads cut off": ({"pruned_heads": {"0": [1]}}, "pruned_heads .*: heads were pruned"),
    "a decoder": ({"is_decoder": True}, "is_decoder true"),
    "cross attention": ({"add_cross_attention": True}, "attend to another model"),
    "bitsandbytes": ({"quantization_config": {"load_in_8bit": True}}, "stored quantized"),
    "quantized by name": ({"quantization_config": "awq"}, "config.json"),
    "compressed tensors": ({"compression_config": {"format": "pack-quantized"}}, "stored quantized"),
    "roberta without padding": ({"model_type": "roberta", "pad_token_id": None}, "numbers positions from it"),
}


def _changed(base: Path, folder: Path, values: dict[str, Any]) -> Path:
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, **values})
    return folder


def _logits(folder: Path, shared: bool = False) -> torch.Tensor:
    found = find_base(str(folder))
    found = SharedBase.of(found) if shared else found
    found.tokenizer()
    with torch.no_grad():
        model = found.load("classification", LABELS[:3])
        return model(torch.tensor([[2, 7, 9, 3]])).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_how_a_base_was_run_elsewhere_changes_nothing(base: Path, tmp_path: Path, name: str) -> None:
    folder = _changed(base, tmp_path / "base", ELSEWHERE[name])
    for shared in (False, True):
        assert torch.equal(_logits(folder, shared), _logits(base))


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_model_has_is_refused_in_one_line(base: Path, tmp_path: Path, name: str) -> None:
    values, says = REFUSED[name]
    folder = _changed(base, tmp_path / "base", values)
    for shared in (False, True):
        with pytest.raises(FineGatesError, match=says) as caught:
            _logits(folder, shared)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "null", "{", "[" * 100_000, '{"model_type": "bert", "a": "\\ud800"'])
def test_a_damaged_config_is_named(base: Path, tmp_path: Path, content: str) -> None:
    folder = _changed(base, tmp_path / "base", {})
    (folder / "config.json").write_text(content)
    with pytest.raises(FineGatesError, match=r"config\.json is damaged.*restore the base's own config\.json"):
        _logits(folder)


@pytest.mark.parametrize("variant", ["distilbert", "gpt2", "llama", "deberta-v3", "vit"])
def test_no_field_that_is_checked_is_one_that_a_sound_base_needs(tmp_path: Path, variant: str) -> None:
    config = json.loads((tiny_base(tmp_path / "base", variant) / "config.json").read_text())
    assert {name: config[name] for name in COUNTS if name in config}, "its sizes are known by name"
    write_json(tmp_path / "base" / "config.json", {**config, **dict.fromkeys(OVERRULED, "evil")})
    assert find_base(str(tmp_path / "base")).family()
