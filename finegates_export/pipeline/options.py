"""What an export is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finegates_export.common.options import Options, as_path, check
from finegates_export.graphs.targets import PACKAGES, TARGETS, web
from finegates_export.verification.chain import Tolerances

BLOCK_SIZES = (16, 32, 64, 128, 256)
"""Those that onnxruntime's kernels know."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Options):
    """Options of one export."""

    ckpt: Path
    """The run folder, one of its levels, or a saved shrunk model."""
    out: Path | None = None
    """A file ending in .onnx for the graph alone, or a folder for a bundle."""
    base: str | None = None
    """Where the base model is now, if not where the run was trained."""
    target: Literal["ort-cpu", "portable", "ort-cuda", "tensorrt", "web", "triton"] = "ort-cpu"
    """What the graph is made for: onnxruntime's CPU kernels, standard operators alone, onnxruntime on NVIDIA GPUs in
    float16, TensorRT in float16, or onnxruntime-web in a browser, with a page. `triton`: a model repository for NVIDIA
    Triton, with the graph of `ort-cpu`."""
    quantize: Literal["auto", "none", "int8", "int8-static", "int4"] = "auto"
    """Beside the model in a bundle, instead of it in a file. `int8`: dynamic, per channel. `int8-static`: ranges of
    activations from the run's rows, as signed QDQ. `int4`: weights alone, in blocks. `auto`: int8 in a bundle for the
    web, none else."""
    int8_linears: Literal["auto", "all"] = "auto"
    """Dynamic int8: `auto` leaves linears in float that the table of costs measured on this machine says int8 slows
    down; `all` measures nothing."""
    quantize_head: bool = False
    """Text generation, with --quantize int8 or int4: the LM head in int8 too, and with it embeddings that are tied."""
    block_size: int = 32
    """4-bit weights: inputs that share a scale; 16, 32, 64, 128 or 256."""
    opset: int | None = None
    """ONNX opset; default: the target's."""
    vocabulary_of: Path | None = None
    """Text generation: a text of the task, or JSON lines; tokens that it does not need leave the vocabulary."""
    pool_in_graph: bool = False
    """Embeddings: let the graph pool, and normalise where the run says so; its output is `sentence_embedding`."""
    onnx_folder: bool = False
    """Put the graphs of a bundle under onnx/, where some clients look for them."""
    torch: bool = False
    """Put the shrunk torch model into the bundle too, as the folder `torch/`, to fine-tune it and export again."""
    page: bool = True
    """Target web: put a page into the bundle that runs the model, where the task is to label or score a text."""
    baseline: Path | None = None
    """Target web: a run with layout none, the unpruned model, to compare with on the page."""
    web_libraries: Path | None = None
    """Target web: a node_modules folder that holds @huggingface/transformers; what the page needs of it is copied."""
    gathers: Literal["auto", "always", "never"] = "auto"
    """Matrix layout: `auto` asks the table of costs measured on this machine whether a gather pays for closed dims."""
    tokens: int = 1024
    """Batch times sequence at which the table of costs is asked."""
    plan_only: bool = False
    """Print what would go and why, and write nothing."""
    min_agreement: float = 0.99
    """Share of equal predictions that the quantized model must keep."""
    max_metric_loss: float = 1.0
    """Points of the metric that the quantized model may lose."""
    overwrite: bool = False
    """Replace what is at --out."""
    seed: int = 0
    """Of the random inputs in the chain."""
    threads: int | None = None
    """Processor threads; default: the libraries' choice."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ckpt", as_path(self.ckpt))
        for name in ("out", "baseline", "web_libraries", "vocabulary_of"):
            given = getattr(self, name)
            object.__setattr__(self, name, as_path(given) if given else None)
        check(self.out is not None or self.plan_only, "out", "is needed, unless --plan-only is given")
        targets = (*TARGETS, *PACKAGES)
        check(self.target in targets, "target", f"{self.target!r} is not one of {', '.join(targets)}")
        single_file = self.out is not None and self.out.suffix == ".onnx"
        if self.quantize == "auto":
            object.__setattr__(self, "quantize", "int8" if self.target == web.NAME and not single_file else "none")
        forms = ("none", *TARGETS[self.graph_target].INTEGERS)
        check(self.quantize in forms, "quantize", f"{self.quantize!r}: {self.target} takes {', '.join(forms)}")
        wanted = self.quantize in ("int8", "int4") and TARGETS[self.graph_target].FLOAT == "float32"
        told = "goes with --quantize int8 or int4 on targets in float32"
        check(wanted or not self.quantize_head, "quantize-head", told)
        check(self.opset is None or 18 <= self.opset <= 20, "opset", f"must be 18, 19 or 20, got {self.opset}")
        scales = self.quantize == "int8-static" and TARGETS[self.graph_target].FLOAT == "float16"
        told = f"{self.opset} has no float16 scales, which int8-static needs on {self.target}; take 19 or 20"
        check(not scales or self.opset is None or self.opset >= 19, "opset", told)
        check(self.tokens > 0, "tokens", f"must be positive, got {self.tokens}")
        check(self.threads is None or self.threads > 0, "threads", f"must be positive, got {self.threads}")
        for name in ("onnx_folder", "torch", "baseline", "web_libraries", "vocabulary_of"):
            asked = getattr(self, name) and single_file
            check(not asked, name.replace("_", "-"), "applies to a bundle, and --out names a file")
            packed = getattr(self, name) and self.target in PACKAGES
            check(not packed, name.replace("_", "-"), f"applies to a bundle, and {self.target} writes none")
        alone = not (self.torch and self.vocabulary_of)
        check(
            alone, "vocabulary-of", "is for graphs, and the shrunk torch model keeps its vocabulary; leave --torch away"
        )
        packed = single_file and self.target in PACKAGES
        check(not packed, "out", f"{self.out} is a file, and {self.target} writes a folder")
        for name in ("baseline", "web_libraries"):
            wanted = self.target == web.NAME and self.page
            told = f"is for the page of --target {web.NAME}"
            check(getattr(self, name) is None or wanted, name.replace("_", "-"), told)
        known = self.gathers in ("auto", "always", "never")
        check(known, "gathers", f"{self.gathers!r} is none of auto, always, never")
        known = self.int8_linears in ("auto", "all")
        check(known, "int8-linears", f"{self.int8_linears!r} is neither auto nor all")
        sizes = ", ".join(map(str, BLOCK_SIZES))
        check(self.block_size in BLOCK_SIZES, "block-size", f"must be one of {sizes}, got {self.block_size}")
        self.tolerances()

    @property
    def graph_target(self) -> str:
        """The target that the graph itself is made for."""
        return PACKAGES.get(self.target, self.target)

    @property
    def wants_page(self) -> bool:
        """Whether a page goes beside the model, where the task has one."""
        return self.page and self.target == web.NAME and self.out is not None and self.out.suffix != ".onnx"

    def tolerances(self) -> Tolerances:
        """What the chain may differ by."""
        return Tolerances(agreement=self.min_agreement, metric_points=self.max_metric_loss)
