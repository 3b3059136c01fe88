"""A run folder from somebody else: only what it lists is read, and nothing in it ends in a traceback."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from finegates_export import ExportOptions, export
from finegates_export.common.files import sha256_tree, write_json
from finegates_export.errors import FineGatesError, RunFolderError
from finegates_export.pipeline.source import find_source
from finegates_export.sources.run_folder import read_run
from tests.tiny import LORA, tiny_run

Change = Callable[[Path], None]
DEEP = "[" * 100_000
LEAK = '{"password": "hunter2"}'


@pytest.fixture(scope="module")
def sound(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("sound") / "run", base, "coupled", lora=LORA, samples=8)


def _record(run: Path, **changes: Any) -> None:
    values = json.loads((run / "run.json").read_text(encoding="utf-8"))
    write_json(run / "run.json", {**values, **changes})


def _listed(run: Path) -> None:
    """List what lies there now, as a stranger would."""
    _record(run, files=sha256_tree(run, leave_out=("run.json",)))


def _file(name: str, content: str | bytes) -> Change:
    def act(run: Path) -> None:
        (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        _listed(run)

    return act


def _rows(**changes: Any) -> Change:
    def act(run: Path) -> None:
        rows = load_file(run / "samples.safetensors")
        made = {name: change(rows) for name, change in changes.items()}
        kept = {name: tensor for name, tensor in {**rows, **made}.items() if tensor is not None}
        save_file(kept, run / "samples.safetensors")
        _listed(run)

    return act


def _header(*entries: tuple[str, list[int], list[int]], data: int = 64) -> bytes:
    header = {name: {"dtype": "F32", "shape": shape, "data_offsets": offsets} for name, shape, offsets in entries}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


def _sparse(run: Path) -> None:
    with (run / "tokenizer.json").open("wb") as file:
        file.truncate(65 << 20)
    _listed(run)


def _link(name: str) -> Change:
    """The file or folder lies elsewhere, unchanged, and a link leads to it."""

    def act(run: Path) -> None:
        shutil.move(run / name, run.parent / "elsewhere")
        (run / name).symlink_to(run.parent / "elsewhere")

    return act


REFUSED: dict[str, tuple[Change, str]] = {
    "a version in words": (lambda run: _record(run, schema_version="9"), "schema_version is '9', not a number"),
    "a version of truth": (lambda run: _record(run, schema_version=True), "schema_version is True"),
    "no files": (lambda run: _record(run, files=None), "files: must be an object, got None"),
    "files in a list": (lambda run: _record(run, files=["run.json"]), "files: must be an object"),
    "a file above": (lambda run: _record(run, files={"../secret": "0" * 64}), "no path inside its folder"),
    "a file from the root": (lambda run: _record(run, files={"/etc/passwd": "0" * 64}), "no path inside its folder"),
    "a file of another system": (lambda run: _record(run, files={"..\\x": "0" * 64}), "no path inside its folder"),
    "a hash of none": (lambda run: _record(run, files={"a": ""}), "has no sha256"),
    "a hash that is a number": (lambda run: _record(run, files={"a": 5}), "files: must be .* each is text"),
    "a base that is a number": (lambda run: _record(run, base_id=5), "base_id: must be text, got 5"),
    "tensors in a list": (lambda run: _record(run, base_tensors=[]), "base_tensors: must be an object"),
    "no labels": (lambda run: _record(run, labels=None), "labels: must be a list"),
    "labels in one word": (lambda run: _record(run, labels="abc"), "labels: must be a list"),
    "labels that are objects": (lambda run: _record(run, labels=[{}, {}, {}]), "labels: must be a list"),
    "labels that are numbers": (lambda run: _record(run, labels=[1, 2, 3]), "labels: must be a list .* each is text"),
    "endless texts": (lambda run: _record(run, max_length=float("inf")), "max_length: must be a whole number, got inf"),
    "texts of a billion": (lambda run: _record(run, max_length=10**9), "max_length: must be greater than 1 and at"),
    "metrics in a list": (lambda run: _record(run, metrics=[]), "metrics: must be an object"),
    "metrics in words": (lambda run: _record(run, metrics={"f1": "0.9"}), "metrics: must be an object of which"),
    "options in a list": (lambda run: _record(run, options=[]), "options: must be an object"),
    "a task in a list": (lambda run: _record(run, task=["x"]), "task: must be text"),
    "own base above": (lambda run: _record(run, own_base=True, base_id="../../x"), "no path inside its folder"),
    "own base in words": (lambda run: _record(run, own_base="yes"), "own_base: must be true or false"),
    "nested without end": (lambda run: _write(run, DEEP), r"run\.json is damaged: its brackets are nested too deep"),
    "a list": (lambda run: _write(run, "[1]"), r"run\.json is damaged: it holds a list, not an object"),
    "no text": (lambda run: (run / "run.json").write_bytes(b"\xff\xfe"), r"run\.json is damaged"),
    "a link to a listed file": (_link("head.safetensors"), r"head\.safetensors is a link; copy the run folder with"),
    "a link to a folder": (_link("adapter"), "is a link; copy the run folder with"),
    "more in the adapter": (lambda run: _write(run, "{}", "adapter/x.json"), r"x\.json is not listed in run\.json"),
    "more in a base": (lambda run: _write(run, "{}", "base/x/config.json"), r"config\.json is not listed in run"),
    "ids beyond the words": (_rows(input_ids=lambda t: t["input_ids"] + 5000), "input_ids holds .* no embedding"),
    "ids below zero": (_rows(input_ids=lambda t: t["input_ids"] - 9), "input_ids holds -"),
    "no mask": (_rows(attention_mask=lambda t: None), "it has no attention_mask"),
    "a mask of numbers": (_rows(attention_mask=lambda t: t["attention_mask"] * 7), "attention_mask holds 7"),
    "rows of none": (_rows(input_ids=lambda t: t["input_ids"][:0]), r"input_ids has shape \(0, "),
    "other rows in the mask": (_rows(attention_mask=lambda t: t["attention_mask"][1:]), "attention_mask has shape"),
    "ids in floats": (_rows(attention_mask=lambda t: t["attention_mask"].float()), "and type torch.float32"),
    "labels of other rows": (_rows(labels=lambda t: t["labels"][:3]), r"labels has shape \(3,\) for 8 rows"),
    "labels of NaN": (_rows(labels=lambda t: t["labels"] * float("nan")), "labels holds values that are no finite"),
    "texts in a word": (_file("texts.json", '"abc"'), r"texts\.json is damaged"),
    "texts without end": (_file("texts.json", DEEP), r"texts\.json is damaged"),
    "texts of no tokens": (_file("texts.json", '[{"given": "a", "ids": "a", "segments": []}]'), "has no ids"),
    "tokens beyond the words": (
        _file("texts.json", '[{"given": "a", "ids": [2, 99999, 3], "segments": []}]'), "tokens up to 99999 and",
    ),
    "a header of none": (_file("gates.safetensors", struct.pack("<Q", 1 << 60)), "truncated or not a safetensors"),
    "a header without end": (_file("gates.safetensors", struct.pack("<Q", len(DEEP)) + DEEP.encode()), "is not JSON"),
    "a header that is a list": (_file("head.safetensors", struct.pack("<Q", 3) + b"[1]"), "its header is no object"),
    "a huge shape": (_file("head.safetensors", _header(("a", [1 << 40], [0, 64]))), "but its shape needs"),
    "a shape below zero": (_file("head.safetensors", _header(("a", [-4], [0, 16]))), r"the shape \[-4\]"),
    "offsets that run back": (_file("head.safetensors", _header(("a", [0], [16, 0]))), r"the offsets \[16, 0\]"),
    "tensors over each other": (
        _file("head.safetensors", _header(("a", [16], [0, 64]), ("b", [16], [0, 64]))), "lies over another",
    ),
    "an empty tokenizer": (_file("tokenizer.json", "{}"), "is no tokenizer"),
    "a tokenizer without end": (_file("tokenizer.json", DEEP), "nested too deep"),
    "a tokenizer that is deep": (
        _file("tokenizer.json", '{"version": "1.0", "model": ' + '{"a": ' * 300 + "1" + "}" * 301), "is no tokenizer",
    ),
    "a tokenizer without measure": (_sparse, "has 68,157,440 bytes, at most"),
}  # fmt: skip


def _write(run: Path, content: str, name: str = "run.json") -> None:
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_text(content)


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_run_is_refused_in_one_line(sound: Path, tmp_path: Path, name: str) -> None:
    change, says = REFUSED[name]
    run = tmp_path / "run"
    shutil.copytree(sound, run)
    change(run)
    with pytest.raises(FineGatesError, match=says) as caught:
        find_source(run).batches()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_what_is_not_listed_is_neither_read_nor_copied(sound: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(sound, run)
    (tmp_path / "secret.json").write_text(LEAK)
    (run / "tokenizer_extra.json").symlink_to(tmp_path / "secret.json")
    (run / "vocab.txt").write_text(LEAK)
    (run / "generation_config.json").symlink_to(tmp_path / "secret.json")
    read = read_run(run)
    assert {file.name for file in read.companions()} == {"tokenizer.json", "tokenizer_config.json"}
    assert find_source(run).batches()


@pytest.mark.slow
def test_nothing_of_the_reader_s_gets_into_a_bundle(sound: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(sound, run)
    (tmp_path / "secret.json").write_text(LEAK)
    for name in ("tokenizer_extra.json", "vocab.txt", "chat_template.jinja"):
        (run / name).symlink_to(tmp_path / "secret.json")
    export(ExportOptions(ckpt=run, out=tmp_path / "bundle", torch=True))
    for file in (path for path in (tmp_path / "bundle").rglob("*") if path.is_file()):
        assert not file.is_symlink()
        assert b"hunter2" not in file.read_bytes()


def test_a_bundle_without_a_tokenizer_is_refused_before_the_work(sound: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(sound, run)
    (run / "tokenizer.json").unlink()
    _listed(run)
    with pytest.raises(RunFolderError, match=r"has no tokenizer\.json among the files"):
        export(ExportOptions(ckpt=run, out=tmp_path / "bundle"))
    assert export(ExportOptions(ckpt=run, plan_only=True)).plan.removed


def test_a_level_that_is_no_number_is_named(sound: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(sound, run)
    (run / "levels" / "evil").mkdir(parents=True)
    with pytest.raises(RunFolderError, match="evil is no level of a run"):
        read_run(run).levels()


SHRUNK: dict[str, tuple[dict[str, Any], str]] = {
    "files in a list": ({"files": []}, "files: must be an object"),
    "a file above": ({"files": {"../x": "0" * 64}}, "no path inside its folder"),
    "no run": ({"run": None}, "is damaged"),
    "a plan of nothing": ({"plan": {}}, "is damaged"),
    "a plan in a list": ({"plan": [1]}, "is damaged"),
    "parameters in words": ({"unpruned_parameters": "1"}, "unpruned_parameters: must be a whole number"),
    "another version": ({"schema_version": "2"}, "schema version '2'"),
}


@pytest.mark.slow
def test_a_hostile_shrunk_model_is_refused_in_one_line(sound: Path, tmp_path: Path) -> None:
    export(ExportOptions(ckpt=sound, out=tmp_path / "bundle", torch=True))
    folder = tmp_path / "bundle" / "torch"
    values = json.loads((folder / "shrunk.json").read_text())
    assert find_source(folder).batches()
    for changes, says in SHRUNK.values():
        write_json(folder / "shrunk.json", {**values, **changes})
        with pytest.raises(RunFolderError, match=says) as caught:
            find_source(folder)
        assert "\n" not in str(caught.value)


def test_a_sound_run_is_read_whole(sound: Path) -> None:
    source = find_source(sound)
    assert source.run.gates and source.run.head and source.run.adapter == sound / "adapter"
    assert any(batch.real for batch in source.batches())
    assert isinstance(next(iter(source.run.gates.values())), torch.Tensor)
