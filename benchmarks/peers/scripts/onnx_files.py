"""A BERT in torch as the ONNX files that common tools make of it: torch.onnx, onnxruntime's optimizer and quantizer.

Shapes: B rows, C labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from contract import CHECKED_ROWS, Arguments, Array, Model, all_logits, check_close, compared, read_rows
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.optimizer import optimize_model
from torch import Tensor, nn
from torch_model import parameter_count, torch_forward

OPSET = 20
OWN_DOMAIN = "com.microsoft"
FLOAT32, INT8 = "model.onnx", "model_quantized.onnx"


class Logits(nn.Module):
    """A task model that returns its logits alone; its inputs come one by one, in `names`' order."""

    def __init__(self, model: Any, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits of shape (B, C)."""
        logits_BC: Tensor = self.model(**dict(zip(self.names, inputs, strict=True))).logits
        return logits_BC


def write_onnx(model: Any, names: tuple[str, ...], path: Path) -> None:
    """Export with torch.onnx, batch and sequence free."""
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in names)
    torch.onnx.export(
        Logits(model, names).eval(), example, str(path), dynamo=True, opset_version=OPSET, external_data=False,
        input_names=list(names), output_names=["logits"], dynamic_shapes=(tuple(axes for _ in names),), verbose=False,
    )  # fmt: skip


def optimize(plain: Path, path: Path) -> None:
    """Fuse with onnxruntime's optimizer for BERTs, which finds heads and sizes by itself."""
    optimize_model(str(plain), model_type="bert").save_model_to_file(str(path))


def exported(arguments: Arguments, model: Any, id_: str, title: str, removed: float = 0.0) -> list[Model]:
    """A model through torch.onnx and onnxruntime's optimizer, into `arguments.out`; see `with_int8`."""
    inputs, _ = read_rows(arguments.rows, "eval")
    plain = arguments.out / "plain.onnx"
    write_onnx(model, tuple(inputs), plain)
    optimize(plain, arguments.out / FLOAT32)
    plain.unlink()
    return with_int8(arguments, model, id_, title, removed)


def with_int8(arguments: Arguments, model: Any, id_: str, title: str, removed: float = 0.0) -> list[Model]:
    """What to tell of `FLOAT32`, which lies in `arguments.out`, and of the int8 file that is made of it here.

    Args:
        arguments: the script's.
        model: the torch model that the file was made of, and must agree with.
        id_: of the float32 model.
        title: of the float32 model.
        removed: share of the layers' linear weights that is gone from it.
    """
    inputs, _ = read_rows(arguments.rows, "eval")
    expected_BC = all_logits(torch_forward(model), inputs, CHECKED_ROWS)
    quantize_dynamic(
        arguments.out / FLOAT32,
        arguments.out / INT8,
        per_channel=True,
        weight_type=QuantType.QInt8,
        # It cannot tell types behind fused operators.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    models = []
    for file, precision, ending in ((FLOAT32, "float32", ""), (INT8, "int8", "int8")):
        agreed = compared(expected_BC, all_logits(onnx_forward(arguments.out / file), inputs, CHECKED_ROWS))
        if precision == "float32":
            check_close(id_, agreed)
        models.append(
            Model(
                id=f"{id_}-{ending}" if ending else id_,
                title=f"{title}, {ending}" if ending else title,
                runtime="onnxruntime",
                parameters=parameter_count(model),
                file=file,
                precision=precision,
                removed=removed,
                fused=own_operators(arguments.out / file),
                **agreed,
            )
        )
    return models


def onnx_forward(path: Path) -> Callable[[dict[str, Array]], Array]:
    """A file as a function from inputs to logits."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}

    def forward(inputs: dict[str, Array]) -> Array:
        logits_BC: Array = session.run(["logits"], {name: inputs[name] for name in names})[0]
        return logits_BC

    return forward


def own_operators(path: Path) -> dict[str, int]:
    """Operators of onnxruntime's own in a file, and how many of each."""
    nodes = onnx.load(path).graph.node
    return dict(Counter(node.op_type for node in nodes if node.domain == OWN_DOMAIN))
