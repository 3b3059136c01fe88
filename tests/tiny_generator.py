"""A bundle for text generation, its graph written by hand: layers unlike each other, one without attention.

folder = tiny_generator(folder)          the bundle
TinyDecoder().logits(tokens)             what its graph says, by numpy, without a cache
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from finegates_export.common.files import sha256_tree, write_json

WIDTH, POSITIONS = 16, 64
SPECIAL = ("<s>", "</s>", "<pad>")
VOCABULARY = len(SPECIAL) + 256
END = SPECIAL.index("</s>")
LAYERS = ((4, 2, 3, 5), None, (3, 1, 4, 4))
"""Of each layer: query heads, heads of keys and values, width of a key, width of a value; None: no attention."""
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "[{{ message.role }}]{{ message.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% generation %}{% endgeneration %}{% endif %}"
)


class TinyDecoder:
    """Weights, and the logits that they give."""

    def __init__(self, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)

        def weight(*shape: int) -> Any:
            return draw.normal(size=shape).astype(np.float32) / np.float32(shape[0] ** 0.5)

        self.weights = {"tokens": weight(VOCABULARY, WIDTH) * 16, "places": weight(POSITIONS, WIDTH) * 6}
        for number, shape in enumerate(LAYERS):
            if shape is not None:
                heads, shared, key, value = shape
                self.weights |= {
                    f"q{number}": weight(WIDTH, heads * key),
                    f"k{number}": weight(WIDTH, shared * key),
                    f"v{number}": weight(WIDTH, shared * value),
                    f"o{number}": weight(heads * value, WIDTH),
                }
            self.weights |= {f"up{number}": weight(WIDTH, WIDTH), f"down{number}": weight(WIDTH, WIDTH)}
        self.weights["head"] = weight(WIDTH, VOCABULARY)

    def logits(self, tokens: list[int]) -> Any:
        """Of the token that follows: the whole text is read, nothing is kept and nothing is padded."""
        w, size = self.weights, len(tokens)
        x = w["tokens"][tokens] + w["places"][:size]
        ahead = np.where(np.tri(size, dtype=bool), 0, -np.inf)
        for number, shape in enumerate(LAYERS):
            if shape is not None:
                heads, shared, key, value = shape
                q = (x @ w[f"q{number}"]).reshape(size, heads, key)
                k = (x @ w[f"k{number}"]).reshape(size, shared, key).repeat(heads // shared, 1)
                v = (x @ w[f"v{number}"]).reshape(size, shared, value).repeat(heads // shared, 1)
                scores = np.einsum("shd,thd->hst", q, k) / key**0.5 + ahead
                weights = np.exp(scores - scores.max(-1, keepdims=True))
                read = np.einsum("hst,thd->shd", weights / weights.sum(-1, keepdims=True), v)
                x = x + read.reshape(size, -1) @ w[f"o{number}"]
            x = x + np.maximum(x @ w[f"up{number}"], 0) @ w[f"down{number}"]
        return (x @ w["head"])[-1]

    def greedy(self, tokens: list[int], count: int, ends: tuple[int, ...] = ()) -> list[int]:
        """The likeliest continuation."""
        known = list(tokens)
        while len(known) < len(tokens) + count and not (len(known) > len(tokens) and known[-1] in ends):
            known.append(int(self.logits(known).argmax()))
        return known[len(tokens) :]


def tiny_generator(
    folder: Path, *, config: dict[str, Any] | None = None, generation: dict[str, Any] | None = None, chat: bool = True
) -> Path:
    """Write the bundle.

    Args:
        folder: where.
        config: what its config.json says beside the number of positions.
        generation: its generation_config.json; none where None.
        chat: whether its tokenizer has a chat template.
    """
    import onnx

    folder.mkdir(parents=True)
    onnx.save(_graph(TinyDecoder()), folder / "model.onnx")
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    named = {"bos_token": "<s>", "eos_token": {"__type": "AddedToken", "content": "</s>"}, "pad_token": "<pad>"}
    write_json(folder / "tokenizer_config.json", named)
    write_json(folder / "config.json", {"max_position_embeddings": POSITIONS, **(config or {})})
    if generation is not None:
        write_json(folder / "generation_config.json", generation)
    if chat:
        (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    seal(folder)
    return folder


def seal(folder: Path) -> None:
    """Write `bundle.json` over the files as they are now."""
    said: dict[str, Any] = {"task": "text-generation", "labels": [], "max_length": POSITIONS, "target": "ort-cpu"}
    said |= {
        "graphs": ["model.onnx"],
        "vocabulary": VOCABULARY,
        "files": sha256_tree(folder, leave_out=("bundle.json",)),
    }
    (folder / "bundle.json").write_text(json.dumps(said), encoding="utf-8")


def byte_tokenizer() -> Any:
    """A token for every byte, and a start token in front of a text."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteLevel as ByteDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.processors import TemplateProcessing

    pieces = [*SPECIAL, *sorted(ByteLevel.alphabet())]
    tokenizer = Tokenizer(BPE({piece: number for number, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False), ByteDecoder()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.enable_truncation(8)  # as a training may leave it: a prompt must not be cut
    return tokenizer


def _graph(model: TinyDecoder) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    constants = {
        **model.weights,
        "zero": np.array(0),
        "one": np.array(1),
        "axis": np.array([1]),
        "axes": np.array([1, 2]),
    }
    given = {"input_ids": "sequence", "attention_mask": "total", "position_ids": "sequence"}
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", axis]) for name, axis in given.items()]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", VOCABULARY])]

    def node(kind: str, read: list[str], name: str, **how: Any) -> str:
        nodes.append(helper.make_node(kind, read, [name], **how))
        return name

    node("Squeeze", [node("Shape", ["input_ids"], "size", start=1)], "new")
    node("Squeeze", [node("Shape", ["attention_mask"], "whole", start=1)], "all")
    node("Range", ["zero", "all", "one"], "keys")
    queries = node("Range", [node("Sub", ["all", "new"], "past"), "all", "one"], "numbers")
    node("Unsqueeze", [queries, "axis"], "queries")
    kept = node("Unsqueeze", [node("Cast", ["attention_mask"], "kept", to=TensorProto.BOOL), "axes"], "rows")
    node("And", [kept, node("LessOrEqual", ["keys", "queries"], "behind")], "seen")
    node("Or", ["seen", node("Equal", ["keys", "queries"], "self")], "mask")  # a filler sees something too
    x = node(
        "Add", [node("Gather", ["tokens", "input_ids"], "t"), node("Gather", ["places", "position_ids"], "p")], "x"
    )
    for i, shape in enumerate(LAYERS):
        if shape is not None:
            heads, shared, key, value = shape
            read = [node("MatMul", [x, f"{kind}{i}"], f"{kind}_{i}") for kind in "qkv"]
            pasts, presents = (
                [f"{word}.{i}.{kind}" for kind in ("key", "value")] for word in ("past_key_values", "present")
            )
            for past, present, width in zip(pasts, presents, (key, value), strict=True):
                axes = ["batch", shared, "past", width]
                inputs.append(helper.make_tensor_value_info(past, TensorProto.FLOAT, axes))
                outputs.append(helper.make_tensor_value_info(present, TensorProto.FLOAT, [*axes[:2], "total", width]))
            nodes.append(
                helper.make_node(
                    "Attention", [*read, "mask", *pasts], [f"a{i}", *presents], q_num_heads=heads, kv_num_heads=shared
                )
            )
            x = node("Add", [x, node("MatMul", [f"a{i}", f"o{i}"], f"b{i}")], f"y{i}")
        up = node("Relu", [node("MatMul", [x, f"up{i}"], f"u{i}")], f"r{i}")
        x = node("Add", [x, node("MatMul", [up, f"down{i}"], f"d{i}")], f"z{i}")
    node("MatMul", [x, "head"], "logits")
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "decoder", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
