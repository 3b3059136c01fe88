"""Every command and every Python block in the documentation runs, on a tiny model, in the order of its page."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from finegates_bench.cli import main as bench_main
from finegates_export.cli import main as export_main
from finegates_export.verification.chain import Chain
from finegates_trainer.cli import main as train_main
from tests.serving.documented import DocumentedServer, documented_server
from tests.tiers import tiered
from tests.tiny import hasten_measurements, tiny_base, write_pairs
from tests.trainer.decoders import CHAT, byte_pair_tokenizer, decoder_base, write_documents
from tests.web.conftest import stand_in

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
COMMANDS: dict[str, Callable[[], None]] = {
    "finegates-train": train_main,
    "finegates-export": export_main,
    "finegates-bench": bench_main,
}
SMALLER = {
    "finegates-train": ["--max-steps", "20", "--batch-size", "8", "--quiet"],
    "finegates-export": ["--quiet"],
    "finegates-export triton": ["--quiet"],
    "finegates-bench": ["--quiet", "--rounds", "5", "--seconds", "0.1", "--processes", "1"],
    "finegates-bench compare": ["--quiet"],
    "finegates-bench table": ["--quiet", "--seconds", "0.1"],
}
"""What a test adds to a command so that it is done in seconds; nothing that changes what it does. Two words where the
second chooses what the first does."""
SPEED = "--target-speedup"
REACHABLE = re.compile(rf"{SPEED} [\d.]+"), f"{SPEED} 1.1"
"""A tiny model takes much of its time beside its layers."""
LAYERS_OF_A_SPEED = 8
"""So many that they outweigh the rest several times over, however vague a moment's timing is."""
LAUNCHER = " --nproc-per-node --no-python"
"""Options of torchrun, which starts one of the commands several times."""
SERVER = " --model-repository"
"""Of tritonserver."""
RUN_ELSEWHERE = ("npm", "python3", "finegates-engine")
"""By tests/web/test_browser.py, with what they install and serve, and by tests/engines/test_tensorrt.py."""
THEIR_OPTIONS = " --ignore-scripts --bind --directory"
GIVEN = (
    "finegates-train --base BASE --data DATA --out run/ --layout coupled",
    "finegates-train --base BASE --data DATA --out unpruned/ --layout none",
    "finegates-export --ckpt run/ --out bundle/ --quantize int8",
)
"""What every page may take for done."""
LONGEST = 128
"""Tokens of the longest shape that the pages measure."""
DEEPER, LAYERS_OF_A_WRITER = "-deeper", 3
"""The language model whose speed a page asks for."""
LANGUAGE_MODEL, LONGEST_BLOCK = "SmolLM2-135M-Instruct", 256
"""What the pages train a generator from, and the tokens of a block of text."""
LENIENT = {"agreement": 0.5, "metric_points": 100.0}
"""What quantized forms keep of a tiny random model, which decides by a hair; which of its linears are quantized is up
to a moment's timing. Forms that are exact are held to what they always are."""
BLOCK = re.compile(r"```(bash|python)\n(.*?)```", re.DOTALL)
LONG_PAGES = ("bench", "decoders", "export", "serve", "train", "web")
"""Pages of many commands: `make test-all` alone runs them."""


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


RUN = [page for page in PAGES if blocks(page)]


def run_line(
    line: str,
    bases: dict[bool, Path],
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: DocumentedServer | None = None,
) -> None:
    pattern, reachable = REACHABLE
    said = pattern.sub(reachable, line).replace("BASE", str(bases[SPEED in line])).replace("DATA", str(rows))
    if SPEED in line:
        said = said.replace(LANGUAGE_MODEL, f"{LANGUAGE_MODEL}{DEEPER}")
    words = shlex.split(said, comments=True)
    if words[0] == "make":
        goals = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, check=False)
        assert goals.returncode == 0, f"{line}: no such target"
        return
    if words[0] == "pytest":
        collected = [sys.executable, "-m", "pytest", "--collect-only", "-q", *words[1:]]
        assert subprocess.run(collected, cwd=ROOT, capture_output=True, check=False).returncode == 0, line
        return
    if words[0] == "openssl":
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        assert subprocess.run(words, capture_output=True, check=False).returncode == 0, line
        return
    if words[0] in ("finegates-serve", "curl"):
        assert server is not None, line
        server.run(words)
        return
    if words[0] not in COMMANDS:
        assert words[0] in ("git", "cd", "pip", *RUN_ELSEWHERE), f"a command that no test runs: {line}"
        return
    smaller = SMALLER.get(" ".join(words[:2]), SMALLER[words[0]])
    monkeypatch.setattr(sys, "argv", [*words, *smaller])
    try:
        COMMANDS[words[0]]()
    except SystemExit as stop:
        assert not stop.code, f"{line}: exit status {stop.code}"


@dataclass(frozen=True)
class Desk:
    """What a reader of any page has in front of them: bases, and a folder with runs, a bundle and text."""

    bases: dict[bool, Path]
    """False: of one layer; True: for a line that asks for a speed."""
    folder: Path
    """What pages start from; each gets a copy."""


def forgive_quantized_forms(patched: pytest.MonkeyPatch) -> None:
    """In commands and in Python alike, by `LENIENT`."""
    finish = Chain.__post_init__

    def finish_leniently(chain: Chain) -> None:
        chain.tolerances = dataclasses.replace(chain.tolerances, **LENIENT)
        finish(chain)

    patched.setattr(Chain, "__post_init__", finish_leniently)


@pytest.fixture(scope="module")
def desk(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Measured costs stay beside it, for all pages."""
    place = tmp_path_factory.mktemp("desk")
    bases = {
        False: tiny_base(place / "base", layers=1, positions=LONGEST),
        True: tiny_base(place / "deep", layers=LAYERS_OF_A_SPEED, positions=LONGEST),
    }
    folder = place / "folder"
    stand_in(folder / "node_modules")
    texts = write_documents(folder / "text").rename(folder / "text" / "train.txt")
    write_pairs(folder / "pairs.jsonl")
    decoder_base(folder / f"{LANGUAGE_MODEL}{DEEPER}", "llama", positions=LONGEST_BLOCK, layers=LAYERS_OF_A_WRITER)
    decoder_base(folder / LANGUAGE_MODEL, "llama", positions=LONGEST_BLOCK)
    byte_pair_tokenizer([texts.read_text(encoding="utf-8")], CHAT).save_pretrained(folder / LANGUAGE_MODEL)
    with pytest.MonkeyPatch.context() as patched:
        hasten_measurements(patched, place)
        forgive_quantized_forms(patched)
        patched.chdir(folder)
        for line in GIVEN:
            run_line(line, bases, rows, patched)
        yield Desk(bases, folder)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "page",
    tiered(RUN, default=[page for page in RUN if page.stem not in LONG_PAGES]),
    ids=lambda page: page.stem,
)
def test_a_page_runs(page: Path, desk: Desk, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = shutil.copytree(desk.folder, tmp_path / "reader")
    monkeypatch.chdir(reader)
    with documented_server() as server:
        for language, block in blocks(page):
            if language == "python":
                exec(compile(block, page.name, "exec"), {})  # noqa: S102  # our own documentation
                continue
            for line in block.splitlines():
                if line.strip() and not line.startswith("#"):
                    again = " --overwrite" if "--out" in line and "--overwrite" not in line else ""
                    run_line(line.partition(" #")[0] + again, desk.bases, rows, monkeypatch, server)


def test_the_pages_have_commands() -> None:
    assert sum(bool(blocks(page)) for page in PAGES) > len(PAGES) / 2


@pytest.mark.slow
def test_every_option_in_the_documentation_exists() -> None:
    helps = {name: _help(name) for name in (*SMALLER, "finegates-engine", "finegates-serve")}
    for page in PAGES:
        for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8"))):
            assert any(option in told for told in helps.values()), f"{page.name}: {option} is no command's option"


def _help(name: str) -> str:
    program, *words = name.split()
    command = [Path(sys.executable).parent / program, *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout + " --config" + LAUNCHER + SERVER + THEIR_OPTIONS
