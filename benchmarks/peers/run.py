"""The same work done with other tools: one unpruned run, one pruned run, and what each peer makes of them.

    python benchmarks/peers/run.py --run UNPRUNED --level PRUNED --base BASE --data DATA --work WORK --out RESULTS

What is missing in WORK is made first, each peer in its own environment; then all models are timed in turns. A second
start makes nothing again that is there for the same inputs.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
from making import Job, make
from registry import Peer, chosen
from report import write_report
from rows import check_runs, write_rows
from turns import Hall, clean_environment, time_in_turns

from finegates_export.common.shapes import Shape
from finegates_export.costs.timing.timer import Budget
from finegates_export.errors import FineGatesError

REFERENCE = "optimum"
"""What a user gets today; every ratio is over it."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the unpruned run, of the layout none")
    parser.add_argument("--level", type=Path, required=True, help="the pruned run, or one of its levels")
    parser.add_argument("--base", required=True, help="the base of both")
    parser.add_argument("--small", help="a smaller pretrained model")
    parser.add_argument("--data", required=True, help="folder with train.tsv and dev.tsv")
    parser.add_argument("--work", type=Path, required=True, help="where the peers' models go")
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix: .json, .md, .png, .svg")
    parser.add_argument("--only", help="some of the peers, comma-separated")
    parser.add_argument("--reference", default=REFERENCE, help="the model that ratios are over")
    parser.add_argument("--shapes", default="1x32,1x128,8x128")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=40.0, help="for each shape, at least")
    parser.add_argument("--processes", type=int, default=4, help="fresh ones of each runtime share rounds and seconds")
    parser.add_argument("--max-steps", type=int, help="cut every training short")
    parser.add_argument("--min-agreement", type=float, default=0.99, help="of our own int8 files")
    parser.add_argument("--max-metric-loss", type=float, default=1.0, help="of our own int8 files, in points")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    try:
        result = compare(arguments)
        write_report(result, arguments.out)
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))
    print(arguments.out.with_suffix(".md").read_text(encoding="utf-8"))


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make, score and time all models; the content of the report."""
    from finegates_bench.measuring.latency import summarize
    from finegates_bench.measuring.stamp import make_stamp
    from finegates_export.sources.assemble import base_of
    from finegates_export.sources.run_folder import read_run

    peers = chosen(arguments.only, small=arguments.small is not None)
    for peer in peers:
        peer.interpreter()  # what is missing is told before anything is made
    shapes = [Shape.parse(text) for text in arguments.shapes.split(",")]
    budget = Budget(arguments.rounds, arguments.seconds).shared(arguments.processes)
    run, level = read_run(arguments.run.absolute()), read_run(arguments.level.absolute())
    check_runs(run, level)
    base = base_of(run, arguments.base)
    arguments.work.mkdir(parents=True, exist_ok=True)
    work = arguments.work.absolute()
    evaluation = write_rows(run, base, arguments.data, work / "rows")
    job = Job(
        run, level, base.id, arguments.small, arguments.data, work / "rows", work, level.info.removed,
        arguments.max_steps, arguments.min_agreement, arguments.max_metric_loss, arguments.seed, arguments.threads,
    )  # fmt: skip
    records = {}
    for peer in peers:
        print(f"{peer.name} ...", file=sys.stderr)
        records[peer] = make(peer, job)
    models = [scored(model, peer, job, evaluation) for peer, record in records.items() for model in record["models"]]
    if arguments.reference not in [model["id"] for model in models]:
        raise ValueError(f"reference: {arguments.reference} is not among {[model['id'] for model in models]}")
    for shape in shapes:
        print(f"{shape} ...", file=sys.stderr)
        times = [
            time_in_turns(
                halls(models, peers, job), shape, base.config().vocab_size, work, job.threads, budget, job.seed + number
            )
            for number in range(arguments.processes)
        ]
        for model in models:
            own, reference = ([rounds[name] for rounds in times] for name in (model["id"], arguments.reference))
            summary = summarize(own, reference, job.seed)
            model.setdefault("timings", {})[str(shape)] = dataclasses.asdict(summary)
    told = f" ONLY={arguments.only}" if arguments.only else ""
    return {
        "stamp": dataclasses.asdict(dataclasses.replace(make_stamp(job.threads), command=f"make bench-peers{told}")),
        "reference": arguments.reference,
        "base": Path(base.id).name,
        "metric_name": run.info.metric,
        "eval_rows": len(evaluation),
        "settings": job.settings(),
        "processes": arguments.processes,
        "peers": {peer.name: {key: record[key] for key in ("seconds", "versions")} for peer, record in records.items()},
        "models": models,
    }


def scored(model: dict[str, Any], peer: Peer, job: Job, evaluation: Any) -> dict[str, Any]:
    """What a script told of a model, with its peer, the size of its file, and the run's metric on the evaluation rows.

    The metric is computed on the file, or from the logits that the script left where onnxruntime does not run it. What
    is built in torch has no file.
    """
    from finegates_bench.measuring.quality import graph_metric
    from finegates_export.common.tasks import LOGITS
    from finegates_trainer.learning.metrics import compute_metrics
    from finegates_trainer.learning.predictions import predictions_of

    info, folder = job.run.info, job.work / peer.name
    if model["logits"]:
        predicted = predictions_of(info.task, {LOGITS: np.load(folder / model["logits"])}, None)
        metric = compute_metrics(info.task, predicted, evaluation.labels, labels=info.labels)[info.metric]
    else:
        metric = graph_metric(folder / model["file"], evaluation, job.run, job.threads)
    size = (folder / model["file"]).stat().st_size if model["file"] else None
    return {**model, "peer": peer.name, "metric": metric, "file_bytes": size}


def halls(models: list[dict[str, Any]], peers: tuple[Peer, ...], job: Job) -> list[Hall]:
    """The models by runtime, each with an interpreter that has it; ONNX files of all peers share ours."""
    owners = {peer.name: peer for peer in peers}
    found: dict[str, Hall] = {}
    for model in models:
        peer, runtime = owners[model["peer"]], model["runtime"]
        own = runtime != "openvino"
        interpreter = sys.executable if own else peer.interpreter()
        hall = found.setdefault(runtime, Hall(runtime, interpreter, {}, clean_environment(own=own)))
        made_from = {"run": job.run.folder, "level": job.level.folder}
        hall.models[model["id"]] = (
            [*model["build"].split(":"), str(made_from[model["build_from"]]), job.base]
            if model["build"]
            else str(job.work / peer.name / model["file"])
        )
    return [*found.values()]


if __name__ == "__main__":
    main()
