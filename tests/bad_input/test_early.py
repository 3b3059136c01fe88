"""A mistake that files and options show is told before torch and its like are imported, by every command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from finegates_export.common.files import write_json
from finegates_export.errors import InputError
from finegates_trainer.data import DataSource, tables
from finegates_trainer.data.heads import check_heads
from finegates_trainer.options import TrainOptions
from finegates_trainer.running.early import allowed_length, check_early
from tests.tiers import tiered
from tests.tiny import tiny_base, tiny_run

HEAVY = ("torch", "transformers", "onnx", "onnxruntime", "peft", "ray")
CODE = """
import sys
from importlib import import_module
sys.argv = ["command", *sys.argv[2:]] if (module := sys.argv[1]) else []
try:
    import_module(module).main()
except SystemExit as stop:
    print("stopped with", stop.code)
print("imported", [name for name in %r if name in sys.modules])
"""
TRAIN = "finegates_trainer.cli --base {base} --data {rows} --out {new}"
EXPORT = "finegates_export.cli --ckpt {run} --out {new}"
BENCH = "finegates_bench.cli --ckpt {run} --out {new}"
MISTAKES = {
    "no rows": (TRAIN.replace("{rows}", "{none}.csv"), "none.csv does not exist"),
    "no column": (f"{TRAIN} --label-column stars", "has no column 'stars'; it has text, label"),
    "an odd cell": (TRAIN.replace("{rows}", "{odd}"), "odd.jsonl line 2 has the boolean True in column 'text'"),
    "no base": (TRAIN.replace("{base}", "{none}"), "none does not exist; give a saved"),
    "no weights": (TRAIN.replace("{base}", "{hollow}"), "weights not found"),
    "no evaluation rows": (f"{TRAIN} --eval-data {{none}}.csv", "none.csv does not exist"),
    "no teacher": (f"{TRAIN} --teacher {{none}}", "none does not exist"),
    "no adapter": (f"{TRAIN} --adapter {{none}}", "adapter: {none} does not exist"),
    "a run in its place": (TRAIN.replace("{new}", "{run}"), "run already exists; pass --overwrite"),
    "another run to resume": (
        TRAIN.replace("{new}", "{other}") + " --resume",
        "trained with seed 7 instead of 0",
    ),
    "too long": (f"{TRAIN} --max-length 5000", "max-length: {base} has 64 positions, but 5000 tokens were requested"),
    "no run": (EXPORT.replace("{run}", "{none}"), "run folder {none} does not exist"),
    "no base of a run": (f"{EXPORT} --base {{none}}", "pass --base to say where it is"),
    "an export in its place": (EXPORT.replace("{new}", "{run}"), "run already exists"),
    "no text": (f"{EXPORT} --vocabulary-of {{none}}", "vocabulary-of: {none} does not exist"),
    "no bundle for Triton": ("finegates_export.cli triton --bundle {none} --out {new}", "none is not a bundle"),
    "no model": ("finegates_export.deploy.engines.cli --model {none} --out {new}", "none does not exist"),
    "no bundle": ("finegates_export.deploy.serving.cli {none}", "none is not a bundle"),
    "no run to measure": (BENCH.replace("{run}", "{none}"), "run folder {none} does not exist"),
    "no baseline": (f"{BENCH} --baseline {{none}}", "run folder {none} does not exist"),
    "no rows to measure on": (f"{BENCH} --eval-data {{none}}.csv", "none.csv does not exist"),
    "a report in its place": (BENCH.replace("{new}", "{run}"), "run already exists"),
    "no report": ("finegates_bench.cli compare {none} {none}", "none does not exist"),
    "no base to measure": ("finegates_bench.cli table --base {none}", "none does not exist"),
}
CHEAP = ("no column", "too long", "an odd cell", "no run", "no bundle", "no model", "no baseline", "no base to measure")
"""One of each command, and those that read the most."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("early")
    base = tiny_base(folder / "base")
    (folder / "rows.csv").write_text("text,label\na film,1\na play,0\n")
    (folder / "odd.jsonl").write_text('{"text": "a", "label": 1}\n{"text": true, "label": 1}\n')
    (folder / "hollow").mkdir()
    (folder / "hollow" / "config.json").write_bytes((base / "config.json").read_bytes())
    run = tiny_run(folder / "run", base, "coupled", samples=0)
    shutil.copytree(run, folder / "other")
    record = json.loads((run / "run.json").read_text())
    write_json(folder / "other" / "run.json", {**record, "options": {"seed": 7}})
    names = {"rows": folder / "rows.csv", "odd": folder / "odd.jsonl", "none": folder / "none", "new": folder / "new"}
    return {**names, "base": base, "run": run, "hollow": folder / "hollow", "other": folder / "other"}


@pytest.mark.parametrize("mistake", tiered(MISTAKES, fast=CHEAP))
def test_a_mistake_is_told_before_anything_heavy_is_imported(places: dict[str, Path], mistake: str) -> None:
    command, message = (text.format(**places) for text in MISTAKES[mistake])
    done = subprocess.run(
        [sys.executable, "-c", CODE % (HEAVY,), *command.split()], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["stopped with 2", "imported []"], done.stderr
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not places["new"].exists()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_of_a_large_file_only_the_beginning_is_read(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "HEAD_BYTES", 2000)
    path = tmp_path / f"rows{suffix}"
    table = pd.DataFrame({"text": [f'a "film"\n{i}é' for i in range(999)], "label": [*range(998), None]})
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_dict("records")))
    elif suffix == ".parquet":
        table.to_parquet(path)
    elif suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        path.write_text("text\tlabel\n" + "".join(f"film {i}\t{i}\n" for i in range(998)) + "film\t\n")
    check_heads(DataSource(str(path)))
    with pytest.raises(InputError, match=r"has no column 'stars'; it has text, label"):
        check_heads(DataSource(str(path), label_column="stars"))
    monkeypatch.setattr(tables, "HEAD_BYTES", 1 << 30)
    with pytest.raises(InputError, match="has no label in column 'label'"):
        check_heads(DataSource(str(path)))


def test_a_folder_and_a_data_sets_name_are_checked_as_far_as_they_are_here(tmp_path: Path) -> None:
    check_heads(DataSource("films/reviews"))
    (tmp_path / "train.csv").write_text("text,label\na,1\n")
    check_heads(DataSource(str(tmp_path)))
    (tmp_path / "dev.csv").write_text("text\na\n")
    with pytest.raises(InputError, match=r"dev\.csv has no column label"):
        check_heads(DataSource(str(tmp_path)))
    check_heads(DataSource(str(tmp_path), eval_data=str(tmp_path / "train.csv")))
    with pytest.raises(InputError, match="is not a folder; images must lie"):
        check_heads(DataSource(str(tmp_path / "train.csv"), task="image-classification"))


def test_a_length_that_was_asked_for_is_not_lowered_in_silence() -> None:
    def asked(**more: object) -> TrainOptions:
        return TrainOptions(base="b", data="d", out=Path("o"), **more)  # type: ignore[arg-type]  # options by name

    assert allowed_length(asked(), "b", 64) == 64, "the default"
    assert allowed_length(asked(max_length=40), "b", 64) == 40
    assert allowed_length(asked(max_length=512, task="image-classification"), "b", 5) == 5, "images have one length"
    for more in ({"max_length": 65}, {"task": "text-generation"}):
        with pytest.raises(InputError, match=r"max-length: b has 64 positions, but (65|128) tokens were requested"):
            allowed_length(asked(**more), "b", 64)


def test_a_config_that_says_no_length_is_left_to_transformers(places: dict[str, Path], tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "model.safetensors").write_bytes((places["base"] / "model.safetensors").read_bytes())
    for config in ({}, {"model_type": "unknown"}, {"model_type": "bert"}, [], {"model_type": ["bert"]}):
        write_json(base / "config.json", config)
        check_early(TrainOptions(base=str(base), data=str(places["rows"]), out=tmp_path / "run", max_length=5000))
