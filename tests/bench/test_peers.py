"""The comparison with other tools, on tiny models; peers with an environment of their own where that is set up."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finegates_export.common.shapes import Shape
from finegates_export.costs.timing.timer import Budget
from finegates_export.errors import InputError, MeasurementError, UnsupportedError
from finegates_export.sources.run_folder import read_run
from tests.tiny import tiny_base

PEERS = Path(__file__).parent.parent.parent / "benchmarks" / "peers"
sys.path[:0] = [str(PEERS), str(PEERS / "scripts")]

import authors_peer  # noqa: E402  # scripts, not of a package
import contract  # noqa: E402
import learning  # noqa: E402
import making  # noqa: E402
import registry  # noqa: E402
import rows as peer_rows  # noqa: E402
import run as driver  # noqa: E402
import turns  # noqa: E402

OWN = ("torch-onnx", "ours", "authors", "small")
"""Peers that run where the tests run."""
TOLERANCE = 1e-4


def words(only: str, level: Path, unpruned: Path, base: Path, rows: Path, folder: Path, small: Path) -> list[str]:
    return [
        "run.py", "--run", str(unpruned), "--level", str(level), "--base", str(base), "--small", str(small),
        "--data", str(rows), "--work", str(folder / "work"), "--out", str(folder / "out" / "peers"), "--only", only,
        "--reference", "torch-onnx", "--shapes", "1x8,2x4", "--rounds", "3", "--seconds", "0", "--processes", "2",
        "--threads", "1", "--max-steps", "3", "--min-agreement", "0", "--max-metric-loss", "200",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("small") / "smaller", layers=1, intermediate=32, seed=5)


@pytest.fixture
def arguments(unpruned_run: Path, gated_run: Path, base: Path, tmp_path: Path) -> Any:
    """What a script is told."""
    level = gated_run / "levels" / "0.40"
    return contract.Arguments(
        run=unpruned_run, level=level, base=base, small=None, data="", rows=tmp_path, made=tmp_path, out=tmp_path,
        removed=0.4, steps=6, unpruned_steps=6, agreement=0.0, metric_loss=200.0, seed=0, threads=1,
    )  # fmt: skip


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_peers_are_made_timed_and_told_and_nothing_is_made_twice(
    gated_run: Path, unpruned_run: Path, base: Path, rows: Path, small: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    told = words(",".join(OWN), gated_run / "levels" / "0.40", unpruned_run, base, rows, tmp_path, small)
    monkeypatch.setattr(sys, "argv", told)
    driver.main()
    result = json.loads((tmp_path / "out" / "peers.json").read_text(encoding="utf-8"))
    models = {model["id"]: model for model in result["models"]}
    assert {model["peer"] for model in models.values()} == set(OWN)
    exact = [model for model in models.values() if model["precision"] == "float32"]
    assert all(model["difference"] < TOLERANCE for model in exact)
    assert any(model["difference"] > TOLERANCE for model in models.values() if model["precision"] == "int8")
    assert models["ours-pruned"]["removed"] == pytest.approx(0.4, abs=0.02)
    assert 0 < models["authors"]["removed"] < models["ours-pruned"]["removed"], "rows stay"
    assert models["authors"]["metric"] == models["authors-torch"]["metric"] == models["ours-pruned"]["metric"]
    assert models["torch-onnx"]["metric"] == models["torch-unpruned"]["metric"] == models["ours-unpruned"]["metric"]
    assert all(timing["rounds"] == 4 for model in models.values() for timing in model["timings"].values())
    assert {timing["ratio"] for timing in models["torch-onnx"]["timings"].values()} == {1.0}
    page = (tmp_path / "out" / "peers.md").read_text(encoding="utf-8")
    assert all(page.count(f"| {model['title']} |") == 2 for model in models.values())
    assert (tmp_path / "out" / "peers.png").stat().st_size
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("*/*.json")}
    monkeypatch.setattr(sys, "argv", [*told, "--shapes", "1x4"])
    driver.main()
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("*/*.json")}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["optimum", "torch-pruning", "openvino"])
def test_a_peer_with_an_environment_of_its_own(
    name: str, gated_run: Path, unpruned_run: Path, base: Path, rows: Path, small: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    peer = next(peer for peer in registry.PEERS if peer.name == name)
    if not (registry.ENVIRONMENTS / peer.environment / ".ready").is_file():
        pytest.skip(f"{peer.environment} is not set up; `make bench-peers` does it")
    only = ",".join(dict.fromkeys([*peer.needs, "torch-onnx", name]))
    monkeypatch.setattr(
        sys, "argv", words(only, gated_run / "levels" / "0.40", unpruned_run, base, rows, tmp_path, small)
    )
    driver.main()
    result = json.loads((tmp_path / "out" / "peers.json").read_text(encoding="utf-8"))
    mine = [model for model in result["models"] if model["peer"] == name]
    assert all(model["difference"] < TOLERANCE for model in mine if model["precision"] == "float32")
    pruned = [model["removed"] for model in mine if model["removed"]]
    assert pruned == [pytest.approx(0.4, abs=0.03)] * {"optimum": 0, "torch-pruning": 2, "openvino": 1}[name]


def test_a_linear_that_selects_computes_what_the_gates_do_and_a_gate_that_is_lost_shows() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(6, 4)
    rows = torch.tensor([1.0, 0.0, 0.3, 1.0])
    columns = torch.tensor([0.0, 0.5, 1.0, 0.0, 1.0, 0.2])
    x = torch.randn(2, 3, 6)
    wanted = rows * linear(columns * x)
    selected = authors_peer.SelectedLinear(linear, rows, columns)
    assert selected.weight.shape == (4, 4)
    assert torch.allclose(selected(x), wanted, atol=1e-6)
    for wrong in (authors_peer.SelectedLinear(linear, None, columns), authors_peer.SelectedLinear(linear, rows, None)):
        assert not torch.allclose(wrong(x), wanted, atol=1e-2)


def test_learning_takes_the_steps_it_is_given_and_keeps_the_best_state(arguments: Any, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in ("train", "eval"):
        ids = generator.integers(5, 20, (40, 6))
        np.savez(tmp_path / f"{name}.npz", input_ids=ids, attention_mask=np.ones_like(ids), labels=ids[:, 1] % 3)
    from torch_model import merged_model

    model, teacher = (merged_model(arguments.run, arguments.base) for _ in range(2))
    seen: list[int] = []
    model.register_forward_pre_hook(lambda module, _args: seen.append(1) if module.training else None)
    before = model.bert.embeddings.word_embeddings.weight.clone()
    learning.learn(model, teacher, arguments, learning.Recipe(batch=16, evaluations=2))
    assert len(seen) == arguments.steps
    assert not torch.equal(before, model.bert.embeddings.word_embeddings.weight)
    assert not model.training
    rates = [learning._factor(step, 10, 0.2) for step in range(10)]
    assert rates.index(max(rates)) == 1
    assert rates[-1] < 0.2


def test_a_model_that_moved_away_from_torch_stops_its_script() -> None:
    expected = np.array([[1.0, -2.0], [0.5, 0.1]])
    contract.check_close("right", contract.compared(expected, expected + 1e-6))
    agreed = contract.compared(expected, expected[:, ::-1])
    assert agreed == {"difference": 1.5, "agreement": 0.0}
    with pytest.raises(SystemExit, match="wrong: logits move by 1"):
        contract.check_close("wrong", agreed)


def test_peers_that_lack_something_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [peer.name for peer in registry.chosen("openvino,ours", small=False)] == ["ours", "openvino"]
    for names, message in (("nobody", "unknown"), ("openvino", "reads what"), ("small", "smaller pretrained")):
        with pytest.raises(ValueError, match=message):
            registry.chosen(names, small=False)
    monkeypatch.setattr(registry, "ENVIRONMENTS", tmp_path)
    with pytest.raises(InputError, match="make bench-peers"):
        next(peer for peer in registry.PEERS if peer.name == "optimum").interpreter()
    with pytest.raises(ValueError, match="environment: strange"):
        registry.Peer("strange", "ours_peer.py", "strange")


def test_runs_that_cannot_be_compared_are_refused(gated_run: Path, unpruned_run: Path) -> None:
    unpruned, gated = read_run(unpruned_run), read_run(gated_run)
    peer_rows.check_runs(unpruned, gated)
    with pytest.raises(InputError, match="the layout coupled"):
        peer_rows.check_runs(gated, gated)
    with pytest.raises(InputError, match="another base"):
        peer_rows.check_runs(unpruned, replace(gated, info=replace(gated.info, base_tensors={})))
    with pytest.raises(UnsupportedError, match="a roberta for classification"):
        peer_rows.check_runs(replace(unpruned, info=replace(unpruned.info, family="roberta")), gated)


def test_a_script_that_fails_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "scripts" / "failing.py"
    script.parent.mkdir()
    script.write_text("raise SystemExit('no such luck')", encoding="utf-8")
    monkeypatch.setattr(registry, "HERE", tmp_path)
    with pytest.raises(MeasurementError, match="no such luck"):
        making._run(registry.Peer("failing", "failing.py"), [sys.executable, str(script)], tmp_path / "log", 1)


def test_a_runtime_that_dies_says_why(tmp_path: Path) -> None:
    hall = turns.Hall("onnxruntime", sys.executable, {"gone": str(tmp_path / "gone.onnx")}, dict(turns.os.environ))
    with pytest.raises(MeasurementError, match=r"times onnxruntime died .*gone\.onnx"):
        turns.time_in_turns([hall], Shape(1, 4), 10, tmp_path, 1, Budget(1, 0.0))


def test_what_environments_install_is_pinned() -> None:
    named = {peer.environment for peer in registry.PEERS} - {registry.OWN}
    files = {file.stem: file.read_text(encoding="utf-8") for file in (PEERS / "requirements").glob("*.txt")}
    assert set(files) == named
    assert all("torch==2.13.0" in content for name, content in files.items() if name != "openvino")


def test_the_contract_needs_numpy_alone() -> None:
    told = "import sys, contract, turn_worker; print(sorted({'torch', 'onnx', 'finegates_export'} & set(sys.modules)))"
    paths = {**turns.os.environ, "PYTHONPATH": f"{PEERS}:{PEERS / 'scripts'}"}
    done = subprocess.run([sys.executable, "-c", told], env=paths, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
