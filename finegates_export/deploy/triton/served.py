"""What a bundle is to a server: what it reads and answers, and where its graph runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from finegates_export.common.input_profile import PROFILES_JSON, Profile
from finegates_export.common.shapes import Shape
from finegates_export.common.tasks import Task, task_of
from finegates_export.deploy.triton.options import Device, TritonOptions
from finegates_export.deploy.triton.signature import Signature, read_signature
from finegates_export.errors import UnsupportedError
from finegates_export.runtime.bundle_files import TOKENIZER_JSON, graph_in, pad_id, read_bundle

DEVICES: dict[str, Device] = {
    "ort-cpu": "cpu", "portable": "cpu", "web": "cpu", "ort-cuda": "cuda", "tensorrt": "tensorrt",
}  # fmt: skip
"""What runs a graph unless the options say otherwise, by the target that it was exported for."""
STANDARD = ("portable", "tensorrt")
"""Targets in the standard's own operators, the only ones that TensorRT knows."""
SHORTEST = 16
"""Tokens of the shortest length that texts are padded to; the others are doubles of it, and the longest of all."""


@dataclass(frozen=True)
class Served:
    """A bundle, as the configs of its models need it."""

    options: TritonOptions
    graph: Path
    """The file."""
    task: Task
    labels: tuple[str, ...]
    """In the order of the logits; empty where the task has none."""
    max_length: int
    """Tokens of a text at most."""
    pad_id: int
    """Id of the padding token."""
    device: Device
    half: bool
    """Whether the graph computes in float16."""
    signature: Signature
    profile: Profile
    """Inputs that TensorRT is to take."""

    @property
    def name(self) -> str:
        """What requests call the model."""
        return self.options.name or self.task.name.replace("-", "_")

    def part(self, what: str) -> str:
        """The name of one of the models that it is made of."""
        return f"{self.name}_{what}"

    @property
    def decides(self) -> bool:
        """Whether logits become labels behind the graph; numbers and vectors are answers as they are."""
        return self.task.decides

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths that texts are padded to: few, for only requests of one length share a call of the graph."""
        doubles, length = [], SHORTEST
        while length < self.max_length:
            doubles.append(length)
            length *= 2
        return (*doubles, self.max_length)


def read_served(options: TritonOptions) -> Served:
    """Read and check a bundle.

    Raises:
        InputError: not a bundle, a file of it was changed, or it lacks the graph that was asked for.
        UnsupportedError: its task has answers that are no tensors, or the device does not run its graph.
    """
    info = read_bundle(options.bundle)
    task = task_of(info["task"])
    graph = graph_in(options.bundle, info, options.form)
    signature = read_signature(graph)
    check_task(task, [tensor.name for tensor in signature.outputs])
    if any("\n" in label for label in info["labels"]):
        raise UnsupportedError("a label has a line break in it, and Triton reads labels line by line; rename it")
    return Served(
        options=options,
        graph=graph,
        task=task,
        labels=tuple(info["labels"]),
        max_length=info["max_length"],
        pad_id=0 if task.images else _pad_id(options.bundle),
        device=_device(options, info["target"]),
        half=info["target"] in ("ort-cuda", "tensorrt"),
        signature=signature,
        profile=_profile(options, info["max_length"]),
    )


def check_task(task: Task, outputs: Collection[str]) -> None:
    """Fail where a server could not answer.

    Args:
        task: what was trained.
        outputs: of the graph, by name.

    Raises:
        UnsupportedError: the answers are no tensors, no vector for a text, or texts.
    """
    refusal = task.triton_refusal(outputs)
    if refusal:
        raise UnsupportedError(refusal)


def _device(options: TritonOptions, target: str) -> Device:
    if options.device == "auto":
        return DEVICES[target]
    if options.device == "tensorrt" and target not in STANDARD:
        raise UnsupportedError(
            f"device: the bundle was exported for {target}, whose operators TensorRT does not know; export it again "
            "with --target tensorrt"
        )
    return options.device


def _profile(options: TritonOptions, max_length: int) -> Profile:
    bundled = options.bundle / PROFILES_JSON
    known = Profile.read(bundled) if bundled.is_file() else Profile.up_to(max_length)
    usual = Shape(min(known.usual.batch, options.max_batch), known.usual.sequence)
    return Profile(known.smallest, usual, Shape(options.max_batch, known.largest.sequence))


def _pad_id(bundle: Path) -> int:
    from tokenizers import Tokenizer

    return pad_id(Tokenizer.from_file(str(bundle / TOKENIZER_JSON)), bundle)
