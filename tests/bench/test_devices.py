"""Models of other targets and on other providers: float16 graphs too; a device is held to the processor's outputs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from finegates_bench import BenchOptions, measure, report
from finegates_bench.measuring.devices import LARGEST_DIFFERENCE, check_difference, difference_from_processor
from finegates_bench.measuring.exports import Exported
from finegates_export.errors import ChainError, UnsupportedError
from finegates_export.verification.inputs import Batch
from tests.bench.conftest import QUICK
from tests.tiers import tiered

GPU_TARGETS = ("ort-cuda", "tensorrt")


@pytest.mark.parametrize("target", tiered(GPU_TARGETS))
def test_a_target_in_float16_is_measured_and_named_so(target: str, gated_run: Path, tmp_path: Path) -> None:
    found = measure(BenchOptions(ckpt=gated_run, out=tmp_path / "report", target=target, **QUICK))
    assert {model.precision for model in found.models} == {"float16"}
    assert {model.export.target for model in found.models} == {target}
    assert all(model.difference is None for model in found.models), "the processor is not compared with itself"
    report(found, tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "var(--float16)" in page
    assert "#2e5c8a" not in page


def test_a_provider_that_is_not_there_is_refused(gated_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="lacks CUDAExecutionProvider"):
        measure(BenchOptions(ckpt=gated_run, out=tmp_path / "report", target="ort-cuda", provider="cuda", **QUICK))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"target": "ort-cuda", "int8": True}, "int8: --target ort-cuda runs no int8 graph"),
        ({"target": "abacus"}, "target: 'abacus' is not one of"),
        ({"provider": "abacus"}, "provider: 'abacus' is not one of"),
    ],
)
def test_options_that_no_device_takes_are_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        BenchOptions(ckpt=Path("run"), out=Path("report"), **settings)  # type: ignore[arg-type]  # wrong on purpose


def test_the_same_device_differs_by_nothing_and_another_graph_by_more_than_is_allowed(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    ids = generator.integers(5, 50, (3, 9))
    batch = Batch(inputs={"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)})
    assert difference_from_processor(exported.graph, [batch], 1, "cpu") == 0.0

    from finegates_export.verification import forms

    whole = forms.onnx_form
    added = SimpleNamespace(value=0.0)

    def off(path: Path, *, provider: str = "cpu", **settings: int) -> object:
        run = whole(path, **settings)  # type: ignore[arg-type]
        shift = added.value if provider == "cuda" else 0.0
        return lambda inputs: {name: array + shift for name, array in run(inputs).items()}

    monkeypatch.setattr(forms, "onnx_form", off)
    for added.value in (0.5, np.nan):  # type: ignore[misc]
        found = difference_from_processor(exported.graph, [batch], 1, "cuda")
        assert not found <= LARGEST_DIFFERENCE
        with pytest.raises(ChainError, match="use --provider cpu"):
            check_difference("unpruned", found, "cuda")
    check_difference("unpruned", LARGEST_DIFFERENCE, "cuda")
