"""The commands: help, plain option names, comma lists, YAML with overrides, one line for anything wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from finegates_export.cli import main as export_main
from finegates_export.common.commands import INTERRUPTED_STATUS, Command, Output, run_command
from finegates_export.pipeline.options import ExportOptions
from finegates_trainer.cli import ALTERNATIVES
from finegates_trainer.cli import main as train_main
from finegates_trainer.options import TrainOptions
from tests.tiny import tiny_run

TINY = ["--max-steps=20", "--batch-size", "8", "--lora-rank", "2", "--quiet"]


def run(main: object, arguments: list[str], monkeypatch: pytest.MonkeyPatch, name: str = "finegates-train") -> int:
    """Run a command in this process; its exit status."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    try:
        main()  # type: ignore[operator]  # an entry point
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_help_names_every_option_with_its_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(train_main, ["--help"], monkeypatch) == 0
    told = capsys.readouterr().out
    for option in (
        "--base",
        "--data",
        "--target-removed",
        "--lora-rank",
        "--levels",
        "--resume",
        "--json",
        "--threads",
    ):
        assert option in told
    assert "--lora.rank" not in told
    assert "--empty-levels" not in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lora-rank", "-1"], "lora-rank: must not be negative, got -1"),
        (["--levels", "0.4,0.2"], "levels: must ascend, got 0.4,0.2"),
        (
            ["--levels", "0.301,0.304,0.5"],
            "levels: more than one would be saved as 0.30; choose levels 0.01 apart",
        ),
        (["--target-speedup", "1.501,1.504"], "target-speedup: more than one would be saved as 1.50x"),
        (["--levels", "0.2,0.4,0.6", "--max-steps", "2"], "max-steps: 2 steps for 3 levels, but each level needs at"),
        (["--levels", "0.4,much"], "much"),
        (["--layout", "spiral"], "spiral"),
        (["--max-steps", "2.5"], "max-steps: must be a whole number, got 2.5"),
        (["--max-grad-norm", "-1"], "max-grad-norm: must not be negative, got -1.0"),
        (["--class-weights", "much,more"], "class-weights: 'much,more' is not a list of numbers"),
        (["--class-weights", "1,inf,1"], "class-weights: must be finite, not negative and not all 0, got 1,inf,1"),
        (["--class-weights", "1,-1,1"], "class-weights: must be finite, not negative and not all 0, got 1,-1,1"),
        (["--class-weights", "0,0,0"], "class-weights: must be finite, not negative and not all 0, got 0,0,0"),
        (["--metric", "bleu"], "metric: 'bleu'"),
        (["--lora-rnk", "4"], "--lora-rank"),
        (["--target-removed", "1.5"], "target-removed: must lie in"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--data", "nowhere.tsv"], "nowhere.tsv does not exist"),
        (["--base", "./nowhere"], "./nowhere does not exist"),
    ],
)
def test_a_bad_value_is_one_line_and_status_2(
    base: Path,
    rows: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {"--base": str(base), "--data": str(rows), "--out": str(tmp_path / "run")}
    given |= {arguments[0]: arguments[1]} if arguments[0] in given else {}
    extra = [] if arguments[0] in given else arguments
    words = [word for pair in given.items() for word in pair]
    assert run(train_main, [*words, *extra], monkeypatch) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_yaml_gives_options_and_flags_win(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("target-removed: 0.2\nlevels: [0.2, 0.3]\nlora-rank: 3\nseed: 7\n", encoding="utf-8")
    words = ["--config", str(recipe), "--base", str(base), "--data", str(rows), "--out", str(tmp_path / "run")]
    assert run(train_main, [*words, *TINY, "--json"], monkeypatch) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["options"]["levels"] == [0.2, 0.3]
    assert told["options"]["seed"] == 7
    assert told["options"]["lora_rank"] == 2
    recipe.write_text("target-remved: 0.2\n", encoding="utf-8")
    assert run(train_main, words, monkeypatch) == 2
    assert "target-remved" in capsys.readouterr().err


YAML_AND_FLAGS: dict[str, tuple[list[str], list[str], dict[str, object]]] = {
    "one share": (["levels: [0.2, 0.4]"], ["--target-removed", "0.3"], {"levels": (), "target_removed": 0.3}),
    "a speed": (
        ["levels: [0.2, 0.4]\ntarget-removed: 0.1"],
        ["--target-speedup", "1.5"],
        {"levels": (), "target_removed": 0.4, "target_speedup": (1.5,)},
    ),
    "levels": (["target-speedup: [1.5]"], ["--levels", "0.2,0.4"], {"levels": (0.2, 0.4), "target_speedup": ()}),
    "epochs": (["max_steps: 60\nseed: 3"], ["--epochs", "4"], {"max_steps": None, "epochs": 4.0, "seed": 3}),
    "steps": (["epochs: 2"], ["--max-steps", "60"], {"max_steps": 60, "epochs": 5.0}),
    "no flag": (["levels: [0.2]\nmax-steps: 6.0"], [], {"levels": (0.2,), "max_steps": 6, "target_removed": 0.4}),
    "both in one file": (["levels: [0.2]\ntarget-removed: 0.3"], [], {"levels": (0.2,), "target_removed": 0.3}),
    "two files": (["target-removed: 0.3", "levels: [0.2]\nseed: 3"], [], {"levels": (), "seed": 3}),
}


@pytest.mark.parametrize("case", YAML_AND_FLAGS)
def test_a_flag_wins_over_what_yaml_says_in_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    recipes, words, expected = YAML_AND_FLAGS[case]
    words = ["--base", "b", "--data", "d", "--out", "o", *words]
    for number, text in enumerate(recipes):
        recipe = tmp_path / f"{number}.yaml"
        recipe.write_text(text, encoding="utf-8")
        words += ["--config", str(recipe)]
    seen: list[TrainOptions] = []
    command = Command("Read.", TrainOptions, lambda options, _output: seen.append(options), ALTERNATIVES)
    assert run(partial(run_command, "finegates-train", command), words, monkeypatch) == 0
    assert {name: getattr(seen[0], name) for name in expected} == expected


def test_a_fraction_of_a_step_in_yaml_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text("max_steps: 2.5", encoding="utf-8")
    words = ["--base", "b", "--data", "d", "--out", "o", "--config", str(tmp_path / "recipe.yaml")]
    assert run(train_main, words, monkeypatch) == 2
    assert capsys.readouterr().err == "finegates-train: max-steps: must be a whole number, got 2.5\n"


@pytest.mark.slow
def test_export_prints_its_tables_or_json(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_run(tmp_path / "run", base, "coupled", samples=4)
    words = ["--ckpt", str(folder), "--out", str(tmp_path / "model.onnx")]
    assert run(export_main, words, monkeypatch, "finegates-export") == 0
    told = capsys.readouterr().out
    for word in ("parameters", "MiB", "padding", "removed", "fused for ort-cpu", "chain on", "ONNX, as delivered"):
        assert word in told
    assert run(export_main, [*words, "--overwrite", "--json"], monkeypatch, "finegates-export") == 0
    assert json.loads(capsys.readouterr().out)["plan"]["removed"] > 0
    assert run(export_main, ["--ckpt", str(folder), "--plan-only"], monkeypatch, "finegates-export") == 0
    assert "integer products" not in capsys.readouterr().out
    assert run(export_main, ["--ckpt", str(folder)], monkeypatch, "finegates-export") == 2
    assert "out: is required" in capsys.readouterr().err


def test_the_installed_commands_start() -> None:
    for name in ("finegates-train", "finegates-export", "finegates-bench"):
        done = subprocess.run(
            [Path(sys.executable).parent / name, "--help"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "--out" in done.stdout


def test_ctrl_c_ends_a_command_with_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_options: object, _output: Output) -> None:
        raise KeyboardInterrupt

    command = Command("Wait.", ExportOptions, interrupted)
    arguments = ["--ckpt", "run/", "--out", "bundle/"]
    assert run(partial(run_command, "finegates-wait", command), arguments, monkeypatch) == INTERRUPTED_STATUS
    assert capsys.readouterr().err == "finegates-wait: interrupted\n"


def test_a_home_folder_in_yaml_is_the_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    options = ExportOptions.from_json({"ckpt": "~/run", "out": "~/bundle"})
    assert (options.ckpt, options.out) == (tmp_path / "run", tmp_path / "bundle")
