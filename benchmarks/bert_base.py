"""A random-weight BERT through run folder, plan and export: seconds, memory, and latency across removed shares.

Weights do not matter for speed, so none are trained: a run folder with every gate open is written, and the bench closes
its levels by weight magnitude (what-if levels).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from finegates_export.common.files import staged_folder, write_json
from finegates_export.errors import FineGatesError

LABELS = ("no", "yes")
MAX_LENGTH = 128
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SIZES: dict[str, dict[str, int]] = {
    "12x768": {},
    "6x384": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
}
"""BERT-base's, and all-MiniLM-L6-v2's."""
CLOSED = 0.4
"""Removed share of the model whose export is measured."""
EXPORT_FLAG = "--measure-export"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where base, run and bundle go")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--sizes", choices=SIZES, default="12x768", help="of the model: layers x width")
    parser.add_argument("--removed", default="0.2,0.4,0.6,0.8,0.9", help="removed shares, comma-separated")
    parser.add_argument("--shapes", default="1x32,1x128,8x128,16x64")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--target", default="ort-cpu", help="what the models are exported for")
    parser.add_argument(
        "--provider", default="cpu", help="what runs them; on another one than cpu only latency is measured"
    )
    parser.add_argument(EXPORT_FLAG, action="store_true", help="only export, and print seconds and memory as JSON")
    arguments = parser.parse_args()
    run = arguments.work / "run"
    if arguments.measure_export:
        print(json.dumps(measure_export(arguments.work / "closed", arguments.threads)))
        return
    try:
        if not run.exists():
            base = arguments.work / "base"
            write_base(base, **SIZES[arguments.sizes])
            write_open_run(run, base)
        shares = tuple(float(share) for share in arguments.removed.split(","))
        bench(arguments, run, shares)
        if arguments.provider != "cpu":
            return
        close(run, arguments.work / "closed")
        write_json(arguments.out / "export.json", in_fresh_process(arguments))
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))
    print((arguments.out / "export.json").read_text(encoding="utf-8"))


def write_base(folder: Path, **changes: int) -> None:
    """A base folder: a BERT of BERT-base's shape unless changed, random weights, and a tokenizer of made-up words."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = BertConfig(num_labels=len(LABELS), **changes)
    words = [*SPECIAL_TOKENS, *(f"word{i}" for i in range(config.vocab_size - len(SPECIAL_TOKENS)))]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))  # noqa: S106  # a token of text
    tokenizer.pre_tokenizer = Whitespace()
    special = [("[CLS]", words.index("[CLS]")), ("[SEP]", words.index("[SEP]"))]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    with staged_folder(folder, overwrite=True) as stage:
        BertForSequenceClassification(config).save_pretrained(stage)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(stage)  # noqa: S106  # as above


def write_open_run(folder: Path, base_folder: Path) -> None:
    """A run folder of the coupled layout with every gate open and the base's own head."""
    from finegates_export.gates.bank import GateBank
    from finegates_export.gates.layout import build_layout
    from finegates_export.sources.base import find_base
    from finegates_export.sources.run_folder import RunInfo, write_run

    base = find_base(str(base_folder))
    family, structure = base.family(), base.family().structure(base.config())
    bank = GateBank(build_layout("coupled", structure), structure)
    model = base.load("classification", LABELS)
    heads = family.head_modules(model)
    head = {name: p.detach() for name, p in model.named_parameters() if name.startswith(heads)}
    info = RunInfo(
        base_id=base.id,
        base_revision=None,
        base_tensors=base.tensor_hashes(),
        family=family.name,
        layout="coupled",
        task="classification",
        labels=LABELS,
        max_length=MAX_LENGTH,
        removed=0.0,
        metric="accuracy",
        metrics={},
        trained_parameters={},
        data={},
        options={},
        command="benchmarks/bert_base.py",
        steps=0,
    )
    with staged_folder(folder, overwrite=True) as stage:
        base.tokenizer().save_pretrained(stage)
        write_run(stage, info, gates=bank.vectors(), head=head, samples=None)


def bench(arguments: argparse.Namespace, run: Path, shares: tuple[float, ...]) -> None:
    """Measure the shares as what-if levels, in floats and on the processor as int8, and write the report."""
    from finegates_bench import BenchOptions, measure, report

    options = BenchOptions(
        ckpt=run,
        out=arguments.out,
        what_if=shares,
        shapes=tuple(arguments.shapes.split(",")),
        int8=arguments.provider == "cpu",
        target=arguments.target,
        provider=arguments.provider,
        threads=arguments.threads,
        overwrite=True,
    )
    report(measure(options), arguments.out, overwrite=True)


def in_fresh_process(arguments: argparse.Namespace) -> dict[str, Any]:
    """`measure_export` in a process of its own."""
    command = [sys.executable, __file__, EXPORT_FLAG, "--work", str(arguments.work), "--out", str(arguments.out)]
    done = subprocess.run([*command, "--threads", str(arguments.threads)], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def close(run: Path, folder: Path) -> None:
    """The run folder with `CLOSED` of the weights removed; in a process that does not measure memory."""
    from finegates_bench.measuring.what_if import WhatIf
    from finegates_export.graphs.targets import ort_cpu
    from finegates_export.sources.assemble import base_of
    from finegates_export.sources.run_folder import read_run

    whole = read_run(run)
    with staged_folder(folder, overwrite=True) as stage:
        WhatIf(whole, base_of(whole), ort_cpu.WIDTHS).write(CLOSED, stage)


def measure_export(closed: Path, threads: int) -> dict[str, Any]:
    """Seconds and peak memory of one export, after everything was imported by a tiny one."""
    from finegates_export import ExportOptions, export

    with tempfile.TemporaryDirectory(dir=closed.parent) as scratch:
        place = Path(scratch)
        write_base(place / "base", num_hidden_layers=1, hidden_size=32, num_attention_heads=4, intermediate_size=64)
        write_open_run(place / "run", place / "base")
        export(ExportOptions(ckpt=place / "run", out=place / "tiny.onnx", threads=threads))
        report = export(ExportOptions(ckpt=closed, out=place / "model.onnx", threads=threads))
    return {
        "seconds": round(report.seconds, 1),
        "unpruned_bytes": report.before.size_bytes,
        "peak_memory_bytes": report.peak_memory_bytes,
        "peak_memory_over_unpruned": round(report.peak_memory_bytes / report.before.size_bytes, 2),
        "removed": report.plan.removed,
        "largest_difference": max(link.relative for link in report.links if link.exact),
    }


if __name__ == "__main__":
    main()
