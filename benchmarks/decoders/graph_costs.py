"""What a decoder's graph has to read for a token, and to compute for a prompt.

Shapes: S tokens of a prompt, D hidden size, V vocabulary.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FLOAT_BYTES = 4


def weight_bytes(graph: Path) -> int:
    """Bytes of the weights that a single token reads: all but tables of which it reads a row.

    Args:
        graph: an ONNX file; weights beside it count like those inside.
    """
    import onnx

    model = onnx.load(graph, load_external_data=False).graph
    looked_up = {node.input[0] for node in model.node if node.op_type == "Gather"}
    read = {name for node in model.node for name in node.input[node.op_type == "Gather" :]}
    return sum(_bytes(tensor) for tensor in model.initializer if tensor.name in read or tensor.name not in looked_up)


def cache_bytes(bundle: Path, tokens: int) -> int:
    """Bytes of the keys and values that a token reads behind so many others."""
    cached = _info(bundle)["cache"]["cached"]
    return FLOAT_BYTES * tokens * sum(one["heads"] * (one["key_width"] + one["value_width"]) for one in cached)


def prefill_flops(bundle: Path, tokens: int) -> int:
    """Of reading a prompt: the layers' linears, Q K^T and A V, and the LM head at every token."""
    info, config = _info(bundle), json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    plan, cached = info["report"]["plan"], info["cache"]["cached"]
    queries, shared = config["num_attention_heads"], config.get("num_key_value_heads", config["num_attention_heads"])
    linears = plan["linear_weights"] * (1 - plan["removed"])
    scores = queries // shared * sum(one["heads"] * (one["key_width"] + one["value_width"]) for one in cached)
    head = plan["hidden_size"] * info["vocabulary"]
    return round(2 * tokens * (linears + head + tokens * scores))


def _info(bundle: Path) -> dict[str, Any]:
    return dict(json.loads((bundle / "bundle.json").read_text(encoding="utf-8")))


def _bytes(tensor: Any) -> int:
    import onnx
    from onnx import numpy_helper

    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return int(next(entry.value for entry in tensor.external_data if entry.key == "length"))
    if tensor.raw_data:
        return len(tensor.raw_data)
    return int(numpy_helper.to_array(tensor).nbytes)
