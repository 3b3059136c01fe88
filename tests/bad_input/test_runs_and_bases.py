"""Whatever is wrong with a run folder or a base is told in one line with its remedy, and nothing is written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from finegates_export import ExportOptions, export
from finegates_export.common.files import sha256_file, write_json
from finegates_export.errors import FineGatesError, InputError, OutputError, RunFolderError, UnsupportedError
from finegates_export.sources.base import INDEX, find_base
from tests.tiny import LORA, tiny_base, tiny_run

Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def sound(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("sound") / "run", base, "coupled", lora=LORA, samples=8)


def _truncate(name: str) -> Damage:
    def damage(run: Path) -> None:
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[: len(content) // 2])

    return damage


def _remove(name: str) -> Damage:
    return lambda run: (run / name).unlink()


def _empty(run: Path) -> None:
    shutil.rmtree(run)
    run.mkdir()


def _schema(version: object) -> Damage:
    return lambda run: _edit_json(run, schema_version=version)


def _edit_json(run: Path, **changes: object) -> None:
    values = json.loads((run / "run.json").read_text(encoding="utf-8"))
    write_json(run / "run.json", {**values, **changes})


def _rewrite(name: str, change: Callable[[dict[str, torch.Tensor]], None]) -> Damage:
    """Change tensors and the file's hash with them: damage that only the values show."""

    def damage(run: Path) -> None:
        tensors = {key: tensor.clone() for key, tensor in load_file(run / name).items()}
        change(tensors)
        save_file(tensors, run / name)
        files = json.loads((run / "run.json").read_text(encoding="utf-8"))["files"]
        _edit_json(run, files={**files, name: sha256_file(run / name)})

    return damage


def _fill(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[sorted(tensors)[0]].view(-1)[0] = value

    return change


def _shorten(tensors: dict[str, torch.Tensor]) -> None:
    name = sorted(tensors)[0]
    tensors[name] = tensors[name][:-1].clone()


def _rename(tensors: dict[str, torch.Tensor]) -> None:
    for name in list(tensors):
        tensors[name.replace("lora_B", "lora_C")] = tensors.pop(name)


CASES: dict[str, tuple[Damage, type[FineGatesError], str]] = {
    "missing": (shutil.rmtree, RunFolderError, "does not exist.*finegates-train"),
    "empty": (_empty, RunFolderError, "empty, unfinished"),
    "no json": (_remove("run.json"), RunFolderError, "holds no run.json"),
    "truncated json": (_truncate("run.json"), RunFolderError, "damaged"),
    "truncated gates": (_truncate("gates.safetensors"), RunFolderError, "gates.safetensors is truncated"),
    "truncated head": (_truncate("head.safetensors"), RunFolderError, "head.safetensors is truncated"),
    "missing adapter": (_remove("adapter/adapter_model.safetensors"), RunFolderError, "incomplete.*adapter_model"),
    "newer schema": (_schema(99), RunFolderError, "schema version 99.*update"),
    "NaN gates": (_rewrite("gates.safetensors", _fill(float("nan"))), InputError, "NaN or infinite"),
    "infinite gates": (_rewrite("gates.safetensors", _fill(float("inf"))), InputError, "NaN or infinite"),
    "short gates": (_rewrite("gates.safetensors", _shorten), InputError, "has shape"),
    "NaN head": (_rewrite("head.safetensors", _fill(float("nan"))), InputError, "NaN or infinite"),
    "adapter as zeros": (_rewrite("adapter/adapter_model.safetensors", _rename), InputError, "would load as zeros"),
    "NaN adapter": (_rewrite("adapter/adapter_model.safetensors", _fill(float("nan"))), InputError, "NaN|merged"),
    "other family": (lambda run: _edit_json(run, family="roberta"), RunFolderError, "family 'roberta'"),
    "unknown field": (lambda run: _edit_json(run, colour="red"), RunFolderError, "damaged: colour"),
    "unknown layout": (lambda run: _edit_json(run, layout="spiral"), RunFolderError, "layout"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_run_is_refused_in_one_line_and_writes_nothing(sound: Path, tmp_path: Path, case: str) -> None:
    damage, error, message = CASES[case]
    run = tmp_path / "run"
    shutil.copytree(sound, run)
    damage(run)
    with pytest.raises(error, match=message) as caught:
        export(ExportOptions(ckpt=run, out=tmp_path / "out"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_another_base_is_refused_by_its_hashes(sound: Path, tmp_path: Path) -> None:
    other = tiny_base(tmp_path / "other", seed=5)
    with pytest.raises(RunFolderError, match=r"not the base this run was trained on.*tensors differ"):
        export(ExportOptions(ckpt=sound, out=tmp_path / "model.onnx", base=str(other)))
    assert not (tmp_path / "model.onnx").exists()


def test_a_base_that_moved_is_found_by_option(sound: Path, base: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(base, moved)
    report = export(ExportOptions(ckpt=sound, base=str(moved), plan_only=True))
    assert report.plan.removed > 0


def test_infinite_base_weights_are_refused(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["bert.encoder.layer.1.output.dense.weight"][0, 0] = float("inf")
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    run = tiny_run(tmp_path / "run", base, "coupled")
    with pytest.raises(InputError, match=r"layer.1.output.dense holds NaN or infinite"):
        export(ExportOptions(ckpt=run, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_pickled_weights_are_refused_with_the_remedy(base: Path, tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(base, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pickle.*save_pretrained"):
        find_base(str(pickled)).tensor_hashes()


def test_an_index_beside_weights_in_one_file_is_passed_over_as_transformers_does(base: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(base, again)
    write_json(again / INDEX, {"weight_map": {"bert.pooler.dense.weight": "model-00001-of-00002.safetensors"}})
    assert find_base(str(again)).tensor_hashes() == find_base(str(base)).tensor_hashes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}', "model-00001-of-00002.safetensors is missing"),
        ('{"metadata": {}}', r"index\.json does not say which files.*weight_map.*download it again"),
        ('{"weight_map": ["a"]}', r"index\.json does not say which files"),
        ('{"weight_map": ', r"index\.json does not say which files"),
    ],
)
def test_an_index_without_its_weights_is_named(base: Path, tmp_path: Path, content: str, message: str) -> None:
    split = tmp_path / "split"
    shutil.copytree(base, split)
    (split / "model.safetensors").unlink()
    (split / INDEX).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        find_base(str(split)).tensor_hashes()


def test_of_the_hub_comes_what_a_base_needs_and_a_pickle_is_named(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub, as a folder: it gives the files that are asked for."""
    hub, commit = tmp_path / "hub", tmp_path / "cache" / "0123abc"
    shutil.copytree(base, hub)
    (hub / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    (hub / "bpe.codes").write_text("a b 1", encoding="utf-8")
    (hub / "model.safetensors").rename(hub / "pytorch_model.bin")

    def download(_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert revision is None
        shutil.copytree(hub, commit, ignore=lambda _, names: set(names) - _asked_for(names, allow_patterns))
        return str(commit)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    found = find_base("someone/model")
    assert found.revision == "0123abc"
    assert found.tokenizer().chat_template == "{{ messages }}"
    assert (commit / "bpe.codes").is_file()
    with pytest.raises(
        InputError, match=r"someone/model has no model\.safetensors on the hub.*pickle.*save_pretrained"
    ):
        found.tensor_hashes()


def _asked_for(names: list[str], patterns: list[str]) -> set[str]:
    from huggingface_hub.utils import filter_repo_objects

    return set(filter_repo_objects(names, allow_patterns=patterns))


def test_truncated_base_weights_are_named(base: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(base, cut)
    _truncate("model.safetensors")(cut)
    with pytest.raises(InputError, match="truncated"):
        find_base(str(cut)).tensor_hashes()


def test_an_unknown_family_is_refused_by_name_with_what_is_supported(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"model_type": "t5"})
    with pytest.raises(UnsupportedError, match=r"'t5' is not supported; supported are: bert"):
        find_base(str(tmp_path)).family()


@pytest.mark.parametrize(("place", "message"), [("./nowhere", "does not exist"), ("{empty}", "without config.json")])
def test_a_base_that_is_not_there_is_named(tmp_path: Path, place: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_base(place.format(empty=tmp_path))


def test_an_existing_output_is_kept_without_overwrite(sound: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "bundle"):
        out = tmp_path / name
        out.mkdir() if name == "bundle" else out.write_text("mine")
        if out.is_dir():
            (out / "bundle.json").write_text("{}")
        with pytest.raises(OutputError, match="already exists; pass --overwrite"):
            export(ExportOptions(ckpt=sound, out=out))
    assert (tmp_path / "model.onnx").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder in which not even root can write")
def test_an_output_folder_that_cannot_be_written_is_told_before_any_work(sound: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        export(ExportOptions(ckpt=sound, out=Path("/proc/finegates/model.onnx")))
    assert os.path.isdir("/proc")  # noqa: PTH112  # the check itself must not have changed anything
