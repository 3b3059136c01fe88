"""Each tier holds the one before it, what a tier omits is in the next, and assertions are counted in all workers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiers import LEFT_OUT, left_out, tiered

ROOT = Path(__file__).parent.parent

SUITE = """
import pytest
from tests.tiers import tiered

@pytest.mark.parametrize("number", tiered(range(4), fast=1, default=2))
def test_numbers(number):
    assert number >= 0
    assert number < 4

@pytest.mark.slow
@pytest.mark.parametrize(("name", "length"), tiered([("a", 1), ("bb", 2)], default=(("bb", 2),)))
def test_names(name, length):
    assert len(name) == length
"""
IN_TIER = {"fast": 1, "default": 3, "all": 6}
ASSERTIONS = {"fast": 2, "default": 5, "all": 10}


def run_suite(folder: Path, *options: str) -> str:
    """A suite of its own, with the project's plugins."""
    (folder / "test_suite.py").write_text(SUITE, encoding="utf-8")
    (folder / "conftest.py").write_text("from tests.conftest import *\n", encoding="utf-8")
    (folder / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n  slow\n  exhaustive\nenable_assertion_pass_hook = true\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}", *options]
    done = subprocess.run([*command, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("tier", IN_TIER)
def test_a_tier_runs_its_tests_and_counts_their_assertions(tmp_path: Path, tier: str) -> None:
    told = run_suite(tmp_path, "--tier", tier, "--count-assertions")
    assert f"{IN_TIER[tier]} passed" in told
    assert f"assertions run: {ASSERTIONS[tier]}\n" in told


@pytest.mark.slow
def test_workers_hand_their_numbers_over(tmp_path: Path) -> None:
    assert f"assertions run: {ASSERTIONS['all']}\n" in run_suite(tmp_path, "-n", "2", "--count-assertions")


@pytest.mark.slow
def test_nothing_is_counted_unless_asked_for(tmp_path: Path) -> None:
    assert "assertions run" not in run_suite(tmp_path)


def test_a_tier_omits_no_more_than_the_one_before() -> None:
    omitted = [LEFT_OUT[tier] for tier in ("fast", "default", "all")]
    assert omitted[0] > omitted[1] > omitted[2] == frozenset()
    assert left_out({"slow", "timeout"}, "fast")
    assert not left_out({"slow", "timeout"}, "default")


def test_values_that_there_are_not_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^fast: \['c'\] are none of the values"):
        tiered("ab", fast=("c",))
    with pytest.raises(ValueError, match=r"^default: 3 of 2 values"):
        tiered("ab", default=3)


def test_what_is_fast_stays_so_when_the_default_names_others() -> None:
    marks = [getattr(value, "marks", None) for value in tiered("abc", fast=("a",), default=("b",))]
    assert marks[0] is None
    assert [mark.name for (mark,) in marks[1:]] == ["slow", "exhaustive"]


def test_the_commands_run_the_tiers() -> None:
    goals = dict(
        re.findall(r"^(test[a-z-]*):.*?\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    )
    assert "--tier fast" in goals["test-fast"]
    assert "--tier default" in goals["test"]
    assert "--tier" not in goals["test-all"]
    assert "--count-assertions" in goals["test-all"]
