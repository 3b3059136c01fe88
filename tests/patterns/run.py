"""One pattern through the whole export, and a command that runs many, resumable, with a log.

python -m tests.patterns.run --count 2000 --log tests/patterns/log.tsv --workers 2
python -m tests.patterns.run --count 500 --log tests/patterns/decoders.tsv --workers 2 --decoders
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from finegates_export.pipeline.export import export
from finegates_export.pipeline.options import ExportOptions
from finegates_export.sources.base import find_base
from finegates_export.verification.link import Link
from tests.patterns.draw import ADAPTERS, Pattern, base_folder, draw_gates, draw_pattern
from tests.tiny import LABELS, MEAN, tiny_base, tiny_run

HEAD = ("seed", "pattern", "removed", "worst", "link", "fused")
LIMIT = 1e-4
REPORT_EVERY = 25
RENEW_EVERY = 140


@dataclass(frozen=True)
class Outcome:
    """What one pattern gave."""

    seed: int
    pattern: str
    removed: float
    worst: float
    """The largest difference of any output from the gated model's, as a share of its scale, over all links."""
    link: str
    """Where it was."""
    fused: str
    """Fused attention nodes over layers with attention, and activations over layers with a feed-forward network."""

    def line(self) -> str:
        """The outcome as a line of the log."""
        words = (self.seed, self.pattern, f"{self.removed:.3f}", f"{self.worst:.2e}", self.link, self.fused)
        return "\t".join(map(str, words))

    @classmethod
    def read(cls, line: str) -> Outcome:
        """Rebuild from `line`."""
        seed, pattern, removed, worst, link, fused = line.rstrip("\n").split("\t")
        return cls(int(seed), pattern, float(removed), float(worst), link, fused)


def run_pattern(pattern: Pattern, root: Path) -> Outcome:
    """Write the pattern's run folder, export it, and take the worst link.

    Args:
        pattern: from `draw_pattern`.
        root: a folder for bases (kept) and scratch.

    Raises:
        ChainError: a link is over the tolerance.
        FusionError: fewer fused nodes than the family promises.
    """
    base = base_folder(pattern, root / "bases")
    if not base.exists():
        fresh = Path(tempfile.mkdtemp(dir=root)) / base.name
        settings = {name: value for name, value in pattern.base.items() if name != "variant"}
        tiny_base(fresh, pattern.variant, **settings)
        base.parent.mkdir(exist_ok=True)
        with contextlib.suppress(OSError):  # another worker was first
            fresh.rename(base)
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        plain = find_base(str(base)).load(pattern.task, LABELS[:3], MEAN if pattern.task == "embedding" else None)
        run = tiny_run(
            Path(scratch) / "run", base, pattern.layout, task=pattern.task, lora=ADAPTERS[pattern.adapter],
            width=pattern.width, gates=draw_gates(pattern, plain), samples=6, seed=pattern.seed, pooling=MEAN,
        )  # fmt: skip
        pooled = pattern.task == "embedding" and pattern.seed % 2 == 0
        out = Path(scratch) / "model.onnx"
        report = export(ExportOptions(ckpt=run, out=out, threads=1, gathers=pattern.gathers, pool_in_graph=pooled))
    worst = max(report.links, key=_difference)
    plan, fused = report.plan, report.fused
    counts = f"{fused['attention']}/{plan.attention_layers} {fused['activation']}/{plan.feed_forward_layers}"
    return Outcome(pattern.seed, pattern.words(), plan.removed, _difference(worst), worst.name, counts)


def _difference(link: Link) -> float:
    return max(link.relative, link.hidden_relative or 0.0)


def read_log(path: Path) -> dict[int, Outcome]:
    """Outcomes by seed; empty where there is no log."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return {outcome.seed: outcome for outcome in map(Outcome.read, lines)}


def summary(outcomes: Iterable[Outcome]) -> str:
    """Count, worst case and its seed."""
    known = list(outcomes)
    worst = max(known, key=lambda outcome: outcome.worst)
    held = sum(outcome.worst < LIMIT for outcome in known)
    return (
        f"{len(known)} patterns, {held} under {LIMIT:.0e} of the scale; worst {worst.worst:.2e} "
        f"(seed {worst.seed}: {worst.pattern}, {worst.link})"
    )


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, required=True, help="seeds 0 to COUNT - 1")
    parser.add_argument("--log", type=Path, required=True, help="appended to; seeds that it holds are not run again")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--decoders", action="store_true", help="patterns of decoders, most of them with a cache")
    arguments = parser.parse_args()
    outcomes = read_log(arguments.log)
    waiting = [seed for seed in range(arguments.count) if seed not in outcomes]
    if not outcomes:
        arguments.log.write_text("\t".join(HEAD) + "\n", encoding="utf-8")
    with arguments.log.open("a", encoding="utf-8") as log:
        for number, outcome in enumerate(_run_all(waiting, arguments.workers, decoders=arguments.decoders), 1):
            outcomes[outcome.seed] = outcome
            log.write(outcome.line() + "\n")
            log.flush()
            if number % REPORT_EVERY == 0:
                sys.stdout.write(f"{number} of {len(waiting)}: {summary(outcomes.values())}\n")
    sys.stdout.write(summary(outcomes.values()) + "\n")
    if any(outcome.worst >= LIMIT for outcome in outcomes.values()):
        sys.exit(1)


def _run_all(seeds: list[int], workers: int, *, decoders: bool) -> Iterator[Outcome]:
    """All patterns, in fresh processes every `RENEW_EVERY`: what torch keeps of each trace slows the next ones down."""
    with tempfile.TemporaryDirectory() as root:
        for start in range(0, len(seeds), RENEW_EVERY):
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start) as pool:
                chosen = seeds[start : start + RENEW_EVERY]
                patterns = [draw_pattern(seed, decoders=decoders) for seed in chosen]
                for done in as_completed([pool.submit(_run_one, pattern, Path(root)) for pattern in patterns]):
                    yield done.result()


def _start() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    disable_progress_bar()
    gc.disable()  # tracing makes millions of small objects; collected once a pattern, they cost a fifth less time
    with tempfile.TemporaryDirectory() as root:
        run_pattern(draw_pattern(0), Path(root))
    gc.freeze()  # what the libraries hold by now stays, and need not be looked through each time


def _run_one(pattern: Pattern, root: Path) -> Outcome:
    gc.collect()
    gc.freeze()
    try:
        return run_pattern(pattern, root)
    except Exception as error:
        raise RuntimeError(f"seed {pattern.seed}: {pattern.words()}: {error}") from error


if __name__ == "__main__":
    main()
