"""The shrunk torch model: saved, loaded, fine-tuned with LoRA, exported again, and refused where it is not one."""

from __future__ import annotations

import json
import shutil

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from finegates_export import export, load, load_torch, save_torch, verify
from finegates_export.errors import ChainError, InputError, RunFolderError
from finegates_export.gates.gated_model import plain_model
from finegates_export.pipeline.options import ExportOptions
from finegates_export.pruning.plan import ShrinkPlan
from finegates_export.sources.assemble import assemble, base_of
from finegates_export.sources.run_folder import read_run
from tests.export.compare import PRACTICE, REJECTED, difference, torch_outputs
from tests.export.conftest import bundle_info
from tests.tiers import tiered
from tests.tiny import LORA

CASES = {
    "bert": ("bert", "coupled", False),
    "mpnet, narrower": ("mpnet", "coupled", True),
    "modernbert": ("modernbert", "matrix", False),
    "qwen3": ("qwen3", "coupled", False),
    "gpt2": ("gpt2", "matrix", False),
}


@pytest.fixture(params=tiered(CASES, default=("bert", "qwen3")))
def saved(request, workshop):
    """A run and its bundle with the torch model in it."""
    variant, layout, width = CASES[request.param]
    run = workshop.run(layout, LORA, variant=variant, width=width)
    return run, workshop.bundle(run, torch=True)


def gated_outputs(run_folder, dims):
    run = read_run(run_folder)
    gated = assemble(run, base_of(run)).gated
    outputs = torch_outputs(gated, plain_model(gated.model))
    return outputs if dims is None else outputs._replace(hidden=outputs.hidden[:, list(dims)])


def test_a_loaded_model_computes_what_the_gated_one_does_with_fewer_weights(saved):
    run, bundle = saved
    model = load_torch(bundle / "torch")
    plan = ShrinkPlan.from_json(bundle_info(bundle)["report"]["plan"])
    assert difference(gated_outputs(run, plan.width), torch_outputs(model)) < PRACTICE
    assert all(parameter.requires_grad for parameter in model.parameters())
    whole = read_run(run)
    before = sum(p.numel() for p in base_of(whole).load(whole.info.task, whole.info.labels).parameters())
    assert sum(p.numel() for p in model.parameters()) < 0.9 * before
    with torch.no_grad():
        [parameter for name, parameter in model.named_parameters() if parameter.dim() == 1][-1][0] += 0.5
    assert difference(gated_outputs(run, plan.width), torch_outputs(model)) > REJECTED


@pytest.mark.slow
def test_lora_trains_on_a_loaded_model_and_the_result_is_exported_again(saved, tmp_path):
    _, bundle = saved
    model = load_torch(bundle / "torch")
    start = torch_outputs(model)
    linears = [
        n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n.rpartition(".")[2] in TARGETS
    ]
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=linears))
    optimizer = torch.optim.Adam([p for p in adapted.parameters() if p.requires_grad], lr=0.05)
    ids = torch.randint(5, 40, (4, 9))
    for _ in range(3):
        loss = adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with pytest.raises(InputError, match="still carries an adapter"):
        save_torch(model, tmp_path / "tuned")
    merged = adapted.merge_and_unload().eval()
    tuned = torch_outputs(merged)
    assert difference(start, tuned) > REJECTED
    save_torch(merged, tmp_path / "tuned")
    assert difference(tuned, torch_outputs(load_torch(tmp_path / "tuned"))) < PRACTICE

    report = export(ExportOptions(ckpt=tmp_path / "tuned", out=tmp_path / "again", threads=1))
    exact = ["ONNX, unoptimized", "ONNX, ort-cpu", "ONNX, as delivered"]
    assert [link.name for link in report.links] == [*exact, "texts, as delivered"]
    assert report.plan.kept_weights == ShrinkPlan.from_json(bundle_info(bundle)["report"]["plan"]).kept_weights
    assert report.before.parameters == bundle_info(bundle)["report"]["before"]["parameters"]
    assert report.real_rows == 24
    link, *_ = verify(tmp_path / "tuned", tmp_path / "again", threads=1)
    assert link.relative < 1e-5
    with pytest.raises(ChainError, match="differs from the gated model"):
        verify(tmp_path / "tuned", bundle, threads=1)
    texts = ["a great film", "awful"]
    first, second = load(bundle).logits(texts), load(tmp_path / "again").logits(texts)
    assert abs(first - second).max() > 1e-3


TARGETS = ("query", "value", "q", "v", "Wqkv", "dense", "q_proj", "v_proj", "c_attn")


def test_a_model_that_was_not_loaded_from_a_shrunk_folder_cannot_be_saved(tmp_path):
    with pytest.raises(InputError, match="Linear is not a shrunk model; save_torch takes a model from load_torch"):
        save_torch(torch.nn.Linear(2, 2), tmp_path / "model")


@pytest.fixture
def copied(workshop, tmp_path):
    bundle = workshop.bundle(workshop.run("coupled", LORA), torch=True)
    return shutil.copytree(bundle / "torch", tmp_path / "torch")


def test_a_run_folder_is_not_a_shrunk_model(workshop):
    with pytest.raises(RunFolderError, match=r"holds no shrunk\.json; finegates-export --torch writes"):
        load_torch(workshop.run("coupled", LORA))


def test_a_changed_file_is_refused(copied):
    (copied / "config.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"config\.json is truncated or was changed"):
        load_torch(copied)


def test_a_newer_schema_is_refused(copied):
    values = json.loads((copied / "shrunk.json").read_text())
    (copied / "shrunk.json").write_text(json.dumps({**values, "schema_version": 99}))
    with pytest.raises(RunFolderError, match="schema version 99, but this version reads 1; update"):
        load_torch(copied)


def test_weights_of_other_widths_are_refused(copied):
    from finegates_export.common.files import sha256_file

    tensors = load_file(copied / "model.safetensors")
    name = "bert.encoder.layer.0.intermediate.dense.bias"
    save_file({**tensors, name: tensors[name][:-1].contiguous()}, copied / "model.safetensors")
    values = json.loads((copied / "shrunk.json").read_text())
    values["files"]["model.safetensors"] = sha256_file(copied / "model.safetensors")
    (copied / "shrunk.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"does not fit the widths in shrunk\.json"):
        load_torch(copied)
