"""Many runs over one base: read once, nothing left behind by one export for the next, the same bytes as apart."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from finegates_export import ExportOptions, SharedBase, export, export_many
from finegates_export.cli import main
from finegates_export.common.files import sha256_tree
from finegates_export.errors import InputError, OutputError, RunFolderError
from finegates_export.graphs.targets import ort_cpu
from finegates_export.pruning import fold as folding
from finegates_export.pruning.fold import fold
from finegates_export.pruning.planner import make_plan
from finegates_export.pruning.shrink import shrink
from finegates_export.sources import base as base_module
from finegates_export.sources import shared_base
from finegates_export.sources.assemble import assemble, base_of
from finegates_export.sources.base import find_base
from finegates_export.sources.run_folder import read_run, write_run
from finegates_export.sources.weights import read_tensors
from tests.tiny import LORA, tiny_base, tiny_run
from tests.tiny_models import FAMILY_VARIANTS, IMAGE_VARIANTS

pytestmark = pytest.mark.slow  # they export several runs
WORDS = "bert.embeddings.word_embeddings.weight"
UP = "bert.encoder.layer.0.intermediate.dense.weight"


def with_labels(run: Path, folder: Path, count: int, scale: float = 1.0) -> Path:
    """A run like another, with a head of so many labels and no rows of its own."""
    whole = read_run(run)
    generator = torch.Generator().manual_seed(count)
    head = {name: value.clone() for name, value in whole.head.items()}
    width = head["classifier.weight"].shape[1]
    head |= {
        "classifier.weight": scale * torch.randn(count, width, generator=generator).clamp(-1, 1),
        "classifier.bias": torch.randn(count, generator=generator),
    }
    info = dataclasses.replace(whole.info, labels=tuple(f"label {i}" for i in range(count)))
    folder.mkdir(parents=True)
    for file in whole.companions():
        shutil.copyfile(file, folder / file.name)
    write_run(folder, info, gates=whole.gates, head=head, samples=None)
    return folder


def shrunk(run, base):
    """The plan and all tensors of a run's shrunk model."""
    assembled = assemble(run, base)
    model = fold(assembled.gated)
    plan = make_plan(model, assembled.structure, ort_cpu.WIDTHS)
    return plan, shrink(model, assembled.structure, plan).state_dict()


def assert_same(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for name, tensor in one[1].items():
        assert torch.equal(tensor, other[1][name]), name


def command(*words):
    """Run the command in this process: status, stdout, stderr."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["finegates-export", *map(str, words)])
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
    return status, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def counted_reads(weights):
    """How often the file of weights is read: by us, to be hashed, or by transformers."""
    import transformers.modeling_utils

    reads = Counter()
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (shared_base, "read_tensors"),
            (base_module, "hash_tensors"),
            (transformers.modeling_utils, "safe_open"),
        ):
            original = getattr(module, name)

            def reading(file, *rest, _original=original, _name=name, **more):
                if Path(file) == weights:
                    reads[_name] += 1
                return _original(file, *rest, **more)

            patch.setattr(module, name, reading)
        yield reads


@pytest.fixture(scope="module")
def base(workshop):
    return workshop.base(layers=1)


@pytest.fixture(scope="module")
def runs(workshop, tmp_path_factory):
    """Runs of four tasks over one base, and one whose logits are infinite."""
    folder = tmp_path_factory.mktemp("runs")
    classifier = workshop.run("coupled", LORA, samples=4, layers=1)
    return {
        "two": with_labels(workshop.run("coupled", samples=4, layers=1), folder / "two", 2),
        "five": with_labels(workshop.run("matrix", samples=4, layers=1), folder / "five", 5),
        "broken": with_labels(workshop.run("coupled", samples=4, layers=1), folder / "broken", 3, scale=3e38),
        "lora": classifier,
        "score": workshop.run("coupled", LORA, samples=4, task="regression", layers=1),
        "vector": workshop.run("coupled", samples=4, task="embedding", width=True, layers=1),
    }


@pytest.mark.slow
def test_runs_of_all_tasks_become_what_they_become_alone(base, runs):
    shared = SharedBase.find(str(base))
    names = ["lora", "two", "five", "score", "vector", "lora"]
    for run in (read_run(runs[name]) for name in names):
        assert_same(shrunk(run, shared), shrunk(run, base_of(run)))
    stored = load_file(base / "model.safetensors")
    held = {name: tensor for file in shared.weight_files() for name, tensor, _ in read_tensors(file)}
    assert held.keys() == stored.keys()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in held.items())


@pytest.mark.parametrize("variant", FAMILY_VARIANTS)
def test_every_family_leaves_its_shared_base_as_it_was(workshop, tmp_path, variant):
    base = workshop.base(variant=variant, layers=1)
    task = "image-classification" if variant in IMAGE_VARIANTS else None
    adapted = read_run(tiny_run(tmp_path / "adapted", base, "matrix", lora=LORA, samples=0, task=task))
    plain = read_run(tiny_run(tmp_path / "plain", base, "coupled", samples=0, task=task, seed=5))
    shared = SharedBase.find(str(base))
    shrunk(adapted, shared)
    assert_same(shrunk(plain, shared), shrunk(plain, base_of(plain)))


def test_untouched_parameters_share_memory_and_gated_ones_do_not(base, runs):
    shared = SharedBase.find(str(base))
    models = [dict(fold(assemble(read_run(runs[name]), shared).gated).named_parameters()) for name in ("two", "lora")]
    assert models[0][WORDS].data_ptr() == models[1][WORDS].data_ptr()
    assert models[0][UP].data_ptr() != models[1][UP].data_ptr()
    alone = find_base(str(base))
    apart = [dict(alone.load("classification", ("a", "b")).named_parameters()) for _ in range(2)]
    assert apart[0][WORDS].data_ptr() != apart[1][WORDS].data_ptr()


def test_a_fold_that_writes_into_the_base_is_found_before_the_next_run(base, runs, monkeypatch):
    shared = SharedBase.find(str(base))
    run = read_run(runs["two"])
    fold(assemble(run, shared).gated)
    assemble(run, shared)
    monkeypatch.setattr(folding, "_multiply", lambda parameter, scale: parameter.data.mul_(scale))
    fold(assemble(run, shared).gated)
    with pytest.raises(InputError, match=r"tensor bert\.encoder\.layer\.0\S+ was changed in memory"):
        assemble(run, shared)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_shards_are_hashed_as_stored_and_held_in_float32(tmp_path, dtype):
    from transformers import AutoModelForSequenceClassification

    whole = tiny_base(tmp_path / "whole", dtype=dtype, layers=1)
    model = AutoModelForSequenceClassification.from_pretrained(whole, dtype=dtype)
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    alone, shared = find_base(str(tmp_path / "shards")), SharedBase.find(str(tmp_path / "shards"))
    assert shared.tensor_hashes() == alone.tensor_hashes() == find_base(str(whole)).tensor_hashes()
    one, other = (each.load("classification", ("a", "b", "c")).state_dict() for each in (alone, shared))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], tensor) and tensor.dtype == torch.float32 for name, tensor in other.items())


def test_a_cut_weight_file_is_refused(tmp_path):
    base = tiny_base(tmp_path / "base", layers=1)
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(InputError, match="is truncated"):
        SharedBase.find(str(base)).tensor_hashes()


@pytest.fixture(scope="module")
def exported(base, runs, tmp_path_factory):
    """The command on three runs, the second of which fails its chain: folder, status, stdout, stderr, reads."""
    folder = tmp_path_factory.mktemp("exports")
    chosen = [runs[name] for name in ("two", "broken", "score")]
    with counted_reads(base / "model.safetensors") as reads:
        told = command("--ckpt", *chosen, "--out", folder, "--threads", 1, "--gathers", "never", "--json")
    return folder, *told, reads


@pytest.mark.slow
def test_a_bundle_is_the_same_bytes_as_that_of_a_separate_export(exported, runs, workshop):
    first, last = (sha256_tree(exported[0] / runs[name].name) for name in ("two", "score"))
    alone = sha256_tree(workshop.bundle(runs["score"]))
    assert {file for file in alone if last.get(file) != alone[file]} == set()
    assert last.keys() == alone.keys()
    assert first["model.onnx"] != alone["model.onnx"]


@pytest.mark.slow
def test_the_base_is_read_once(exported, base, runs):
    assert exported[4] == {"read_tensors": 1}
    run = read_run(runs["two"])
    with counted_reads(base / "model.safetensors") as reads:
        for _ in range(2):
            assemble(run, base_of(run))
    assert reads == {"hash_tensors": 2, "safe_open": 2}


def test_a_failed_run_stops_no_other_and_is_told_at_the_end(exported, runs):
    folder, status, out, err, _ = exported
    assert status == 2
    told = json.loads(out)
    assert [Path(entry["ckpt"]).name for entry in told] == [runs[name].name for name in ("two", "broken", "score")]
    assert ["error" in entry for entry in told] == [False, True, False]
    assert told[0]["plan"]["removed"] > 0
    assert {path.name for path in folder.iterdir()} == {runs["two"].name, runs["score"].name}
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"finegates-export: {runs['broken']}: the gated model itself returns NaN or infinite values")
    assert err.count("finegates-export: ") == 1


@pytest.mark.slow
def test_an_error_that_nobody_foresaw_stops_no_other_run(runs, tmp_path, monkeypatch):
    def spoiled(options, base=None):
        if options.ckpt == runs["two"]:
            raise RuntimeError("out of luck")
        return export(options, base)

    monkeypatch.setattr("finegates_export.pipeline.export_many.export", spoiled)
    many = export_many([ExportOptions(ckpt=runs[name], out=tmp_path / name, threads=1) for name in ("two", "score")])
    assert many.failures == (f"{runs['two']}: RuntimeError: out of luck",)
    assert [path.name for path in tmp_path.iterdir()] == ["score"]


def test_one_run_is_told_as_ever(runs):
    status, out, err = command("--ckpt", runs["two"], "--plan-only", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["plan"]["removed"] > 0
    status, out, _ = command("--ckpt", runs["two"], runs["lora"], "--plan-only")
    assert status == 0
    lines = out.splitlines()
    assert {f"{runs['two']}:", f"{runs['lora']}:"} <= set(lines)
    assert lines[-1].startswith("2 of 2 runs planned; bases read: 1; ")


def test_yaml_takes_a_list_or_one(tmp_path):
    recipe = tmp_path / "many.yaml"
    for given, told in (("[gone, lost]", 2), ("gone", 1)):
        recipe.write_text(f"ckpt: {given}\nplan-only: true\n", encoding="utf-8")
        status, _, err = command("--config", recipe)
        assert (status, err.count("does not exist")) == (2, told)


def test_a_comma_in_a_folder_is_no_list():
    status, _, err = command("--ckpt", "rate=1,decay=2", "--plan-only")
    assert (status, len(err.splitlines())) == (2, 1)
    assert "run folder rate=1,decay=2 does not exist" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "b", "--out", "x.onnx"], "out: x.onnx is a file, but 2 runs need a folder"),
        (["one/a", "two/a/", "--out", "x"], "ckpt: one/a and two/a are both called a, and bundles are named after"),
        (["a", "b"], "out: is required, unless --plan-only is given"),
        (["a", "elsewhere/taken", "--out", "."], "taken already exists; pass --overwrite"),
        (["a", "taken", "--out", "."], "taken is or contains taken, which is an input; choose another --out"),
        (["--out", "x"], "ckpt: names no run folder"),
    ],
)
def test_what_cannot_go_together_is_refused_before_anything_runs(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    if "elsewhere/taken" in words:
        (tmp_path / "taken" / "bundle.json").write_text("{}")
    status, out, err = command("--ckpt", *words)
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_from_python_two_exports_may_not_meet_in_one_place(runs, tmp_path):
    each = [ExportOptions(ckpt=runs[name], out=tmp_path / "one") for name in ("two", "lora")]
    with pytest.raises(ValueError, match=r"^out: .* would both be written to"):
        export_many(each)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "bundle.json").write_text("{}")
    with pytest.raises(OutputError, match="already exists"):
        export_many(each[:1])


@pytest.mark.slow
def test_runs_of_several_bases_take_turns_and_keep_their_order(runs, workshop, tmp_path):
    other = workshop.run("coupled", samples=4, layers=1, seed=9)
    chosen = [runs["two"], other, tmp_path / "nowhere", runs["score"]]
    said: list[str] = []
    done = export_many([ExportOptions(ckpt=run, plan_only=True) for run in chosen], said.append)
    assert [run.options.ckpt for run in done.runs] == chosen
    assert [run.report is None for run in done.runs] == [False, False, True, False]
    assert done.bases == 2
    assert [line.split()[1] for line in said] == [str(runs["two"]), str(runs["score"]), str(other)]
    assert len(done.failures) == 1
    assert "run folder" in done.failures[0]


@pytest.mark.slow
def test_a_base_that_is_gone_fails_its_runs_alone(runs, workshop, tmp_path):
    options = [ExportOptions(ckpt=runs["two"], plan_only=True, base=str(tmp_path / "gone")) for _ in range(2)]
    done = export_many([*options, ExportOptions(ckpt=runs["two"], plan_only=True)])
    assert [run.error is None for run in done.runs] == [False, False, True]
    assert "pass --base to say where it is" in done.failures[0]


def test_a_shared_base_of_another_run_is_refused(runs, workshop):
    other = SharedBase.find(str(workshop.base(layers=1, seed=9)))
    with pytest.raises(RunFolderError, match="is not the base this run was trained on"):
        export(ExportOptions(ckpt=runs["two"], plan_only=True), base=other)
