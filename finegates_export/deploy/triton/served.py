"""A bundle as a server sees it: inputs, answers, and where its graph runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from finegates_export.common.files import JsonObject
from finegates_export.common.input_profile import PROFILES_JSON, Profile
from finegates_export.common.shapes import Shape
from finegates_export.common.tasks import Task, task_of
from finegates_export.common.text_inputs import TextInputs
from finegates_export.deploy.triton.options import Device, TritonOptions
from finegates_export.deploy.triton.signature import Signature, read_signature
from finegates_export.errors import UnsupportedError
from finegates_export.runtime.bundle_files import TOKENIZER_JSON, graph_in, read_bundle, text_inputs

DEVICES: dict[str, Device] = {
    "ort-cpu": "cpu", "portable": "cpu", "openvino": "cpu", "web": "cpu", "ort-cuda": "cuda", "tensorrt": "tensorrt",
}  # fmt: skip
"""The default device of a graph, by the target that it was exported for."""
STANDARD = ("portable", "tensorrt")
"""Targets that use only standard operators, as TensorRT requires."""
SHORTEST = 16
"""The shortest length that texts are padded to, in tokens; then it doubles, up to the maximum length."""


@dataclass(frozen=True)
class Served:
    """A bundle as the configs of its models need it."""

    options: TritonOptions
    graph: Path
    """The file."""
    task: Task
    labels: tuple[str, ...]
    """Label names in the order of the logits; empty if the task has none."""
    max_length: int
    """Maximum tokens per text."""
    text: TextInputs
    """How texts are read."""
    device: Device
    half: bool
    """Whether the graph computes in float16."""
    signature: Signature
    profile: Profile
    """Input shapes for TensorRT."""

    @property
    def name(self) -> str:
        """The model's name in requests."""
        return self.options.name or self.task.name.replace("-", "_")

    def part(self, what: str) -> str:
        """The name of one of its component models."""
        return f"{self.name}_{what}"

    @property
    def decides(self) -> bool:
        """Whether logits become labels after the graph; numbers and vectors are already answers."""
        return self.task.decides

    @property
    def lengths(self) -> tuple[int, ...]:
        """The few lengths that texts are padded to: only requests of one length share a call of the graph."""
        doubles, length = [], SHORTEST
        while length < self.max_length:
            doubles.append(length)
            length *= 2
        return (*doubles, self.max_length)


def read_served(options: TritonOptions) -> Served:
    """Read and check a bundle.

    Raises:
        InputError: not a bundle, a file of it was changed, or it lacks the requested graph.
        UnsupportedError: its task's answers are not tensors, or the device cannot run its graph.
    """
    info = read_bundle(options.bundle)
    task = task_of(info["task"])
    graph = graph_in(options.bundle, info, options.form)
    signature = read_signature(graph)
    check_task(task, [tensor.name for tensor in signature.outputs])
    if any("\n" in label for label in info["labels"]):
        raise UnsupportedError("a label contains a line break, but Triton reads one label per line; rename it")
    return Served(
        options=options,
        graph=graph,
        task=task,
        labels=tuple(info["labels"]),
        max_length=info["max_length"],
        text=_text(options.bundle, info),
        device=_device(options, info["target"]),
        half=info["target"] in ("ort-cuda", "tensorrt"),
        signature=signature,
        profile=_profile(options, info["max_length"]),
    )


def check_task(task: Task, outputs: Collection[str]) -> None:
    """Refuse a bundle whose answers a server cannot return.

    Args:
        task: the task it was trained for.
        outputs: the graph's outputs, by name.

    Raises:
        UnsupportedError: the answers are not tensors, or texts without a vector each, or generated texts.
    """
    refusal = task.triton_refusal(outputs)
    if refusal:
        raise UnsupportedError(refusal)


def _device(options: TritonOptions, target: str) -> Device:
    if options.device == "auto":
        return DEVICES[target]
    if options.device == "tensorrt" and target not in STANDARD:
        raise UnsupportedError(
            f"device: the bundle was exported for {target}, whose operators TensorRT does not support; export it again "
            "with --target tensorrt"
        )
    return options.device


def _profile(options: TritonOptions, max_length: int) -> Profile:
    bundled = options.bundle / PROFILES_JSON
    known = Profile.read(bundled) if bundled.is_file() else Profile.up_to(max_length)
    usual = Shape(min(known.usual.batch, options.max_batch), known.usual.sequence)
    return Profile(known.smallest, usual, Shape(options.max_batch, known.largest.sequence))


def _text(bundle: Path, info: JsonObject) -> TextInputs:
    """How texts are read; images have none, and nothing asks for it."""
    from tokenizers import Tokenizer

    if task_of(info["task"]).images:
        return TextInputs(info["max_length"])
    return text_inputs(bundle, info, Tokenizer.from_file(str(bundle / TOKENIZER_JSON)))
