"""`--help` of every command: options in groups, the everyday ones first, with their words and defaults."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable

import pytest

from finegates_bench.cli import SUBCOMMANDS
from finegates_bench.cli import main as bench_main
from finegates_bench.measuring.options import BenchOptions
from finegates_export.cli import CommandOptions
from finegates_export.cli import main as export_main
from finegates_export.common.grouped_help import GENERAL
from finegates_export.common.options import Options
from finegates_export.common.recipe_options import flag_of
from finegates_export.deploy.engines.cli import main as engine_main
from finegates_export.deploy.engines.options import EngineOptions
from finegates_export.deploy.serving.cli import main as serve_main
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.deploy.triton.options import TritonOptions
from finegates_trainer.cli import main as train_main
from finegates_trainer.options import TrainOptions

COMMANDS: dict[str, tuple[Callable[[], None], type[Options]]] = {
    "finegates-train": (train_main, TrainOptions),
    "finegates-export": (export_main, CommandOptions),
    "finegates-export triton": (export_main, TritonOptions),
    "finegates-bench": (bench_main, BenchOptions),
    "finegates-bench table": (bench_main, SUBCOMMANDS["table"].options),
    "finegates-bench compare": (bench_main, SUBCOMMANDS["compare"].options),
    "finegates-serve": (serve_main, ServeOptions),
    "finegates-engine": (engine_main, EngineOptions),
}
EVERYDAY = ["--base", "--data", "--out", "--task", "--layout", "--target-removed", "--lora-rank", "--epochs",
            "--batch-size", "--learning-rate"]  # fmt: skip
IN_GENERAL = ["--json", "--verbose", "--quiet", "--help", "--version"]
PANEL = re.compile(r"╭─ (.+?) ─+╮\n(.*?)╰", re.DOTALL)
ENTRY = re.compile(r"^│ [* ]{0,3}(?:[A-Z-]+ )?(--[a-z0-9-]+)")


def panels(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The boxes of the page: title and text."""
    monkeypatch.setattr(sys, "argv", [*command.split(), "--help"])
    monkeypatch.setenv("COLUMNS", "1000")
    COMMANDS[command][0]()
    return dict(PANEL.findall(capsys.readouterr().out))


def entries(panel: str) -> dict[str, str]:
    """The options of a box, in order, each with its line."""
    found = {}
    for line in panel.splitlines():
        option = ENTRY.match(line)
        if option:
            found[option[1]] = line
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_one_group(command: str) -> None:
    options = COMMANDS[command][1]
    grouped = [name for names in options.groups.values() for name in names]
    assert sorted(grouped) == sorted(field.name for field in dataclasses.fields(options))  # type: ignore[arg-type]  # every subclass is a dataclass


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_shows_the_groups_in_order(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = COMMANDS[command][1]
    shown = panels(command, monkeypatch, capsys)
    assert list(shown) == [*options.groups, GENERAL]
    for title, names in options.groups.items():
        assert set(entries(shown[title])) == {flag_of(name) for name in names}, title
    assert list(entries(shown[GENERAL])) == IN_GENERAL


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_words_and_its_default(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = panels(command, monkeypatch, capsys)
    lines = {option: line for panel in shown.values() for option, line in entries(panel).items()}
    for field in dataclasses.fields(COMMANDS[command][1]):  # type: ignore[arg-type]  # every subclass is a dataclass
        line = lines[flag_of(field.name)]
        assert re.search(r"  [A-Z0-9a-z].{8,}?[.)](?: \[|\s+│)", line), line
        told = re.search(r"\[default: (.*?)\]", line)
        if field.default is dataclasses.MISSING:
            assert "[required]" in line
        elif field.default in (None, (), ""):
            assert told is None
        else:
            value = field.default
            assert told is not None, line
            assert told[1] == (",".join(map(str, value)) if isinstance(value, tuple) else str(value))


def test_training_begins_with_the_ten_everyday_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = panels("finegates-train", monkeypatch, capsys)
    assert list(shown) == [
        *("Everyday", "Model", "Data", "Gates", "Training", "LoRA", "Distillation", "Output"),
        GENERAL,
    ]
    assert set(entries(shown["Everyday"])) == set(EVERYDAY)
