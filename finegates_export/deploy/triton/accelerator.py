"""TensorRT inside onnxruntime, as a graph's config asks for it."""

from __future__ import annotations

from finegates_export.deploy.triton.pbtxt import Message, pairs
from finegates_export.deploy.triton.served import Served
from finegates_export.deploy.triton.signature import FREE

SHAPES = {"min": "trt_profile_min_shapes", "opt": "trt_profile_opt_shapes", "max": "trt_profile_max_shapes"}
"""onnxruntime's options for the smallest, usual and largest inputs."""


def accelerated(served: Served) -> Message:
    """The field `optimization`: precision, a cached engine, and the shapes that it takes."""
    sizes = served.profile.to_json({tensor.name: (FREE, *tensor.dims) for tensor in served.signature.inputs})
    shapes = {
        option: ",".join(f"{name}:{'x'.join(map(str, three[which]))}" for name, three in sizes.items())
        for which, option in SHAPES.items()
    }
    values = {"precision_mode": _precision(served), "trt_engine_cache_enable": "1", **shapes}
    tensorrt = {"name": "tensorrt", "parameters": pairs(values)}
    return {"graph": {"level": 1}, "execution_accelerators": {"gpu_execution_accelerator": [tensorrt]}}


def _precision(served: Served) -> str:
    if served.options.form != "float":
        return "INT8"
    return "FP16" if served.half else "FP32"
