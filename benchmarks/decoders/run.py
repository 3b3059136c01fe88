"""A small language model, pruned and not, as float32, int8 and int4: tokens a second against what the bytes allow.

SmolLM2-135M-Instruct at several removed shares, closed without training (`closing.py`), exported by the command.
Prompts and tokens are timed in one fresh process in which all models take turns; memory and the time to the first token
in a process for each. The one of which most is gone is timed once more with its vocabulary cut to the text that is
read, and every quantized one also with its LM head in int8. What was exported is not exported again: its seconds and
memory lie beside the bundle. `--exports-only` measures exports alone, and leaves the report's timings as they were.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from finegates_bench.measuring.stamp import make_stamp
from finegates_export.common.files import write_json
from finegates_export.common.graph_forms import GRAPH_FILES, Form
from finegates_export.costs.timing.fresh_process import run_fresh
from finegates_export.costs.timing.model_times import time_models
from finegates_export.costs.timing.model_worker import ModelSpec
from finegates_export.costs.timing.timer import Budget
from finegates_export.errors import FineGatesError, MeasurementError

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("worker.py")
FORMS: dict[str, Form] = {"float": "float", "int8": "int8", "int4": "int4", "int8-head": "int8", "int4-head": "int4"}
"""What is timed, and which graph of its bundle that is; `-head`: with the LM head in int8 too."""
HEAD = "-head"
ALONE, CUT = "float", "cut"
"""Exports in float32 alone: as it is, and with a vocabulary of what the text needs."""
SEED_OF_CUT = 1
"""Of the chain's random rows. Those of seed 0 had one, over the vocabulary of the pages of 28 November 2026, that
rounds so badly that the export was refused by a hair: 1.02e-4 of the scale; see docs/exactness.md."""
TOKENS_A_TURN = 8
NANOSECONDS = 1e9
REST_SECONDS = 180
"""Until our own exports have left the load average of the last minute."""
PROMPT = 128
"""Tokens in front of those that are written."""
KIB = 1 << 10
LOOSE = ("--min-agreement", "0.01", "--max-metric-loss", "1e6")
"""A model that is closed without training predicts badly, quantized otherwise badly: the float links are the proof."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="folder of the language model")
    parser.add_argument("--work", type=Path, required=True, help="where runs and bundles go")
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix")
    parser.add_argument("--removed", default="0,0.2,0.4", help="removed shares, the unpruned model (0) first")
    parser.add_argument("--prompts", default="128,512", help="lengths of the prompts that are read")
    parser.add_argument("--tokens", type=int, default=48, help="tokens that are written")
    parser.add_argument("--processes", type=int, default=3, help="for each model, for memory and the first token")
    parser.add_argument("--rounds", type=int, default=16, help="in which all models take turns, at least")
    parser.add_argument(
        "--seconds", type=float, default=90.0, help="until when rounds are added where ratios are vague"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--exports-only", action="store_true", help="keep the timings of the report at --out")
    parser.add_argument("--runs-only", action="store_true", help="what this script starts itself for")
    arguments = parser.parse_args()
    shares = [float(share) for share in arguments.removed.split(",")]
    try:
        if shares[0] != 0:
            raise ValueError("removed: the first share must be 0, the others are measured against it")
        if arguments.runs_only:
            write_runs(arguments.base, arguments.work, shares)
            return
        report = arguments.out.with_suffix(".json")
        if arguments.exports_only and not report.is_file():
            raise ValueError(f"exports-only: there is no {report} whose timings could be kept; leave it away")
        exports = measure_exports(arguments, shares)
        timings = json.loads(report.read_text(encoding="utf-8")) if arguments.exports_only else None
        result = {**(timings or measure_speed(arguments, shares)), "exports": exports}
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))
    from speed_report import markdown

    write_json(report, result)
    arguments.out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


def write_runs(base: Path, work: Path, shares: list[float]) -> None:
    """A run folder for every share; in a process of its own, whose memory goes with it."""
    from closing import weigh, write_run

    closing = weigh(base, text())
    for share in shares:
        write_run(closing, share, work / "runs" / f"{share:g}")


def text() -> str:
    """What is read: this repository's own pages."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


def measure_exports(arguments: argparse.Namespace, shares: list[float]) -> dict[str, dict[str, Any]]:
    """Runs, and an export of each form: what it took, and what it says, by share and form."""
    _run(_own_command(arguments))
    exports = {f"{share:g} {form}": _export(arguments, share, form) for share in shares for form in [*FORMS][1:]}
    exports[f"{shares[0]:g} {ALONE}"] = _export(arguments, shares[0], ALONE)
    exports[f"{shares[-1]:g} {CUT}"] = _export(arguments, shares[-1], CUT)
    return exports


def measure_speed(arguments: argparse.Namespace, shares: list[float]) -> dict[str, Any]:
    """Prompts, tokens and memory of what was exported."""
    from graph_costs import cache_bytes, prefill_flops, weight_bytes

    time.sleep(REST_SECONDS)
    busy = os.getloadavg()[0]
    timed: dict[str, tuple[Path, str]] = {
        f"{share:g} {form}": (_bundle(arguments, share, "int8" if form == "float" else form), form)
        for share in shares
        for form in FORMS
    }
    timed[f"{shares[-1]:g} {CUT}"] = _bundle(arguments, shares[-1], CUT), "float"
    spec = _spec(arguments)
    models: dict[str, dict[str, Any]] = {}
    for name, (bundle, form) in timed.items():
        graph = bundle / GRAPH_FILES[FORMS[form]]
        info = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        models[name] = {
            "removed": info["report"]["plan"]["removed"],
            "form": form,
            "vocabulary": info["vocabulary"],
            "file_bytes": graph.stat().st_size + sum(_beside(graph)),
            "weight_bytes": weight_bytes(graph),
            "cache_bytes": cache_bytes(bundle, PROMPT + arguments.tokens // 2),
            "prefill_flops": {str(length): prefill_flops(bundle, length) for length in spec["prompts"]},
            "processes": [],
        }
    graphs = {name: str((bundle / GRAPH_FILES[FORMS[form]]).absolute()) for name, (bundle, form) in timed.items()}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.processes):
            for name, (bundle, form) in timed.items():
                told = {**spec, "bundle": str(bundle.absolute()), "form": FORMS[form]}
                models[name]["processes"].append(
                    run_fresh(WORKER, told, Path(folder), f"times {name}", "see whether the bundle loads")
                )
        vocabulary = min(model["vocabulary"] for model in models.values())
        turns = ModelSpec(
            graphs, 1, 1, vocabulary, arguments.threads, 0, Budget(arguments.rounds, arguments.seconds),
            reference=f"{shares[0]:g} float", past=PROMPT + arguments.tokens // 2, repeat=TOKENS_A_TURN,
        )  # fmt: skip
        for name, times in time_models(turns, Path(folder)).items():
            models[name]["decode"] = [nanoseconds / NANOSECONDS / TOKENS_A_TURN for nanoseconds in times]
        for length in spec["prompts"]:
            print(f"a prompt of {length}", file=sys.stderr)
            prompt = dataclasses.replace(turns, sequence=length, past=0, repeat=1)
            for name, times in time_models(prompt, Path(folder)).items():
                models[name].setdefault("prefill", {})[str(length)] = [one / NANOSECONDS for one in times]
    cuts = {name: models.pop(name) for name in [*models] if CUT in name}
    return {
        "stamp": dataclasses.asdict(dataclasses.replace(make_stamp(arguments.threads), command="make bench-decoders")),
        "base": arguments.base.name,
        "base_bytes": sum(file.stat().st_size for file in arguments.base.glob("*.safetensors")),
        "load_before": round(busy, 2),
        "prompt": PROMPT,
        "tokens": arguments.tokens,
        "models": models,
        "cuts": cuts,
    }


def _spec(arguments: argparse.Namespace) -> dict[str, Any]:
    """What every process is told alike."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(arguments.base / "tokenizer.json"))
    tokenizer.no_truncation()
    prompts = [int(length) for length in arguments.prompts.split(",")]
    first = tokenizer.decode(tokenizer.encode(text()).ids[:PROMPT])
    return {"text": first, "prompts": prompts, "threads": arguments.threads}


def _export(arguments: argparse.Namespace, share: float, what: str) -> dict[str, Any]:
    """The command, and what it says and uses; remembered beside the bundle."""
    out = _bundle(arguments, share, what)
    remembered = out.with_name(f"{out.name}.json")
    if out.is_dir() and remembered.is_file():
        return dict(json.loads(remembered.read_text(encoding="utf-8")))
    run = arguments.work / "runs" / f"{share:g}"
    command = [str(Path(sys.executable).parent / "finegates-export"), "--ckpt", str(run), "--out", str(out)]
    command += ["--int8-linears", "all", "--gathers", "never", "--threads", str(arguments.threads)]
    if what == CUT:
        words = arguments.work / "text.txt"
        words.write_text(text(), encoding="utf-8")
        command += ["--vocabulary-of", str(words), "--seed", str(SEED_OF_CUT)]
    elif what != ALONE:
        command += ["--quantize", FORMS[what]] + (["--quantize-head"] if what.endswith(HEAD) else [])
    busy = os.getloadavg()[0]
    seconds, peak = _run([*command, "--overwrite", "--quiet", *LOOSE])
    told = json.loads((out / "bundle.json").read_text(encoding="utf-8"))["report"]
    facts = {
        "seconds": seconds,
        "load_before": round(busy, 2),
        "peak_memory_bytes": peak,
        "removed": told["plan"]["removed"],
        "links": told["links"],
    }
    write_json(remembered, facts)
    return facts


def _bundle(arguments: argparse.Namespace, share: float, form: str) -> Path:
    return Path(arguments.work) / "bundles" / f"{share:g}-{form}"


def _beside(graph: Path) -> list[int]:
    """Bytes of weights that lie beside a graph."""
    return [file.stat().st_size for file in graph.parent.glob(f"{graph.name}?data")]


def _own_command(arguments: argparse.Namespace) -> list[str]:
    given = ["--base", arguments.base, "--work", arguments.work, "--out", arguments.out, "--removed", arguments.removed]
    return [sys.executable, __file__, *map(str, given), "--runs-only"]


def _run(command: list[str]) -> tuple[float, int]:
    """Seconds and peak resident bytes of a process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise MeasurementError(f"{' '.join(command)} ended with status {process.returncode}; see what it said")
    return time.perf_counter() - started, usage.ru_maxrss * KIB


if __name__ == "__main__":
    main()
