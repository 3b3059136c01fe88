"""The options of an export, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from finegates_export.common.options import Groups, Options, as_path, check
from finegates_export.graphs.targets import PACKAGES, TARGETS, openvino, web
from finegates_export.verification.link import Tolerances

INT8_BITS = (7, 8)
"""Bits that an int8 weight may have."""
BLOCK_SIZES = (16, 32, 64, 128, 256)
"""The sizes that onnxruntime's kernels support."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Options):
    """Options of one export."""

    groups: ClassVar[Groups] = {
        "Everyday": (
            "ckpt",
            "out",
            "base",
            "target",
            "quantize",
            "plan_only",
            "overwrite",
        ),
        "Quantization": (
            "int8_linears",
            "int8_bits",
            "quantize_head",
            "block_size",
            "min_agreement",
            "max_metric_loss",
        ),
        "Graph": (
            "opset",
            "vocabulary_of",
            "pool_in_graph",
            "openvino_weights",
            "gathers",
            "tokens",
        ),
        "Bundle": (
            "onnx_folder",
            "torch",
            "sign",
            "page",
            "baseline",
            "web_libraries",
        ),
        "Machine": (
            "seed",
            "threads",
        ),
    }

    ckpt: Path
    """A run folder, one of its levels, or a saved shrunk model."""
    out: Path | None = None
    """A file ending in .onnx for the graph alone, or a folder for a bundle."""
    base: str | None = None
    """Where the base model is now, if it has moved since training."""
    target: Literal["ort-cpu", "portable", "openvino", "ort-cuda", "tensorrt", "web", "triton"] = "ort-cpu"
    """What the graph is made for. `ort-cpu`: onnxruntime's CPU kernels. `portable`: standard operators only.
    `openvino`: OpenVINO on the CPU, in float32 and bfloat16. `ort-cuda`: onnxruntime on NVIDIA GPUs, in float16.
    `tensorrt`: TensorRT, in float16. `web`: onnxruntime-web in a browser, with a page. `triton`: a model repository for
    NVIDIA Triton, with the graph of `ort-cpu`."""
    quantize: Literal["auto", "none", "int8", "int8-static", "int4"] = "auto"
    """Write a quantized graph: beside the float one in a bundle, instead of it in a file. `int8`: dynamic, per
    channel. `int8-static`: signed QDQ, with activation ranges from the run's rows. `int4`: weights only, in blocks.
    `auto`: int8 in a bundle for the web, otherwise none."""
    int8_linears: Literal["auto", "all"] = "auto"
    """Dynamic int8: `auto` keeps linears in float where the cost table of this machine says that int8 is slower; `all`
    quantizes every linear and measures nothing."""
    int8_bits: Literal[7, 8] | None = None
    """Bits of an int8 weight. 7 computes the same on every processor; 8 rounds less, and saturates on x86 processors
    without VNNI. Default: 7, and 8 for `tensorrt`."""
    quantize_head: bool = False
    """Text generation, with --quantize int8 or int4: put the LM head in int8 too, with embeddings tied to it."""
    block_size: int = 32
    """4-bit weights: inputs that share one scale; 16, 32, 64, 128 or 256."""
    opset: int | None = None
    """ONNX opset, 18, 19 or 20; default: the target's."""
    vocabulary_of: Path | None = None
    """Text generation: a text of the task, or JSON lines; tokens that it does not need are cut from the vocabulary."""
    pool_in_graph: bool = False
    """Embeddings: pool in the graph, and normalize if the run does; the output is `sentence_embedding`."""
    openvino_weights: Literal["float32", "float16"] = "float32"
    """Target openvino: the type of the weights in OpenVINO's file; float16 halves it."""
    onnx_folder: bool = False
    """Put a bundle's graphs under onnx/, where some clients expect them."""
    torch: bool = False
    """Add the shrunk torch model to the bundle as the folder `torch/`, for fine-tuning and another export."""
    sign: Path | None = None
    """Sign the bundle with this Ed25519 private key, a PEM file; `load(..., key=...)` takes the public one."""
    page: bool = True
    """Target web: add a page that runs the model, if the task is to label or score a text."""
    baseline: Path | None = None
    """Target web: an unpruned run (layout none) for the page to compare with."""
    web_libraries: Path | None = None
    """Target web: a node_modules folder with @huggingface/transformers, from which the page's libraries are copied."""
    gathers: Literal["auto", "always", "never"] = "auto"
    """Matrix layout: whether gathers skip closed dims; `auto` asks the cost table measured on this machine."""
    tokens: int = 1024
    """Batch times sequence at which the cost table is read."""
    plan_only: bool = False
    """Print what would be removed and why, and write nothing."""
    min_agreement: float = 0.99
    """Lowest share of predictions on which the quantized model must agree with the float one."""
    max_metric_loss: float = 1.0
    """Most metric points that the quantized model may lose."""
    overwrite: bool = False
    """Replace what is at --out."""
    seed: int = 0
    """Seed of the chain's random inputs."""
    threads: int | None = None
    """CPU threads; default: the libraries' choice."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ckpt", as_path(self.ckpt))
        for name in ("out", "baseline", "web_libraries", "vocabulary_of", "sign"):
            given = getattr(self, name)
            object.__setattr__(self, name, as_path(given) if given else None)
        self._check_target()
        self._check_quantization()
        self._check_opset()
        self._check_bundle()
        self._check_page()
        self._check_costs()
        self.tolerances()

    def _check_target(self) -> None:
        check(self.out is not None or self.plan_only, "out", "is required, unless --plan-only is given")
        targets = (*TARGETS, *PACKAGES)
        check(self.target in targets, "target", f"{self.target!r} is not one of {', '.join(targets)}")
        packed = self._is_file and self.target in PACKAGES
        packed = packed or (self._is_file and self.target == openvino.NAME)
        check(not packed, "out", f"{self.out} is a file, but --target {self.target} writes a folder")
        types = ("float32", "float16")
        message = f"{self.openvino_weights!r} is not one of {', '.join(types)}"
        check(self.openvino_weights in types, "openvino-weights", message)
        applies = self.openvino_weights == "float32" or self.target == openvino.NAME
        check(applies, "openvino-weights", f"applies only to --target {openvino.NAME}")

    def _check_quantization(self) -> None:
        if self.quantize == "auto":
            object.__setattr__(self, "quantize", "int8" if self.target == web.NAME and not self._is_file else "none")
        graph = TARGETS[self.graph_target]
        forms = ("none", *graph.INTEGERS)
        check(
            self.quantize in forms,
            "quantize",
            f"{self.quantize!r} is not one of {', '.join(forms)}, which --target {self.target} takes",
        )
        fits = self.quantize in ("int8", "int4") and graph.FLOAT == "float32"
        message = "needs --quantize int8 or int4, and a target in float32"
        check(fits or not self.quantize_head, "quantize-head", message)
        linears = ("auto", "all")
        message = f"{self.int8_linears!r} is not one of {', '.join(linears)}"
        check(self.int8_linears in linears, "int8-linears", message)
        bits = ", ".join(map(str, INT8_BITS))
        known = self.int8_bits is None or self.int8_bits in INT8_BITS
        check(known, "int8-bits", f"must be one of {bits}, got {self.int8_bits}")
        integer = self.quantize in ("int8", "int8-static") or self.quantize_head
        check(integer or self.int8_bits is None, "int8-bits", "applies to int8 weights; give --quantize int8")
        sizes = ", ".join(map(str, BLOCK_SIZES))
        check(self.block_size in BLOCK_SIZES, "block-size", f"must be one of {sizes}, got {self.block_size}")

    def _check_opset(self) -> None:
        check(self.opset is None or 18 <= self.opset <= 20, "opset", f"must be 18, 19 or 20, got {self.opset}")
        fixed = self.opset is None or self.target != openvino.NAME
        check(fixed, "opset", f"--target {openvino.NAME} needs opset {openvino.OPSET}; omit it")
        scales = self.quantize == "int8-static" and TARGETS[self.graph_target].FLOAT == "float16"
        message = f"{self.opset} lacks the float16 scales that int8-static needs on {self.target}; use 19 or 20"
        check(not scales or self.opset is None or self.opset >= 19, "opset", message)

    def _check_bundle(self) -> None:
        for name in ("onnx_folder", "torch", "sign", "baseline", "web_libraries", "vocabulary_of"):
            given, flag = bool(getattr(self, name)), name.replace("_", "-")
            check(not (given and self._is_file), flag, f"applies to a bundle, but --out {self.out} is a file")
            packed = given and self.target in PACKAGES
            check(not packed, flag, f"applies to a bundle, but --target {self.target} writes none")
        kept = bool(self.torch and self.vocabulary_of)
        message = "cuts the graph's vocabulary, but the shrunk torch model keeps its own; omit --torch"
        check(not kept, "vocabulary-of", message)

    def _check_page(self) -> None:
        for name in ("baseline", "web_libraries"):
            shown = self.target == web.NAME and self.page
            message = f"applies only to the page of --target {web.NAME}"
            check(getattr(self, name) is None or shown, name.replace("_", "-"), message)

    def _check_costs(self) -> None:
        known = ("auto", "always", "never")
        check(self.gathers in known, "gathers", f"{self.gathers!r} is not one of {', '.join(known)}")
        check(self.tokens > 0, "tokens", f"must be positive, got {self.tokens}")
        check(self.threads is None or self.threads > 0, "threads", f"must be positive, got {self.threads}")

    @property
    def _is_file(self) -> bool:
        """Whether `out` is a graph alone, not a bundle."""
        return self.out is not None and self.out.suffix == ".onnx"

    @property
    def graph_target(self) -> str:
        """The target of the graph itself."""
        return PACKAGES.get(self.target, self.target)

    @property
    def weight_bits(self) -> int:
        """Bits of an int8 weight."""
        return self.int8_bits or TARGETS[self.graph_target].INT8_BITS

    @property
    def keeps_float(self) -> bool:
        """Whether what is written has the float graph beside a quantized one."""
        return self.out is not None and not self._is_file and self.target not in PACKAGES

    def without_quantization(self) -> ExportOptions:
        """The same export, of the float form alone."""
        return replace(self, quantize="none", quantize_head=False, int8_bits=None)

    @property
    def wants_page(self) -> bool:
        """Whether to write a page next to the model, if its task has one."""
        return self.page and self.target == web.NAME and self.out is not None and not self._is_file

    def tolerances(self) -> Tolerances:
        """How far the links of the chain may differ."""
        return Tolerances(agreement=self.min_agreement, metric_points=self.max_metric_loss)
