"""Stands in for Triton's onnxruntime backend, which the wheel's server lacks: a model of the Python backend that runs
the graph beside it with the config's own parameters. Imports nothing of this project."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = int(parameters.get("intra_op_thread_count", 0))
        (graph,) = (Path(args["model_repository"]) / args["model_version"]).glob("*.onnx")
        self.session = onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
        self.inputs = [value["name"] for value in config["input"]]
        self.outputs = [value["name"] for value in config["output"]]

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        feed = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
        found = self.session.run(self.outputs, feed)
        return pb_utils.InferenceResponse([pb_utils.Tensor(*pair) for pair in zip(self.outputs, found, strict=True)])
