"""What `import finegates_export` and its two sisters offer: names, completion, a version, and types."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType

import pytest

PACKAGES = ("finegates_export", "finegates_trainer", "finegates_bench")
FROM_THE_TOP = {
    "finegates_export": {"ExportReport", "Plan", "Tolerances", "errors", "export", "load", "verify"},
    "finegates_trainer": {"TrainOptions", "train"},
    "finegates_bench": {"BenchOptions", "measure", "report"},
}
HEAVY = {"torch", "transformers", "onnxruntime", "onnx", "peft", "matplotlib", "numpy"}


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def names_for_type_checkers(source: str) -> dict[str, str]:
    """What the block under TYPE_CHECKING offers, and where it says that it lives."""
    block = next(node for node in ast.parse(source).body if isinstance(node, ast.If))
    homes: dict[str, str] = {}
    offered: set[str] = set()
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            homes |= {alias.asname or alias.name: f"{node.module}:{alias.name}" for alias in node.names}
            offered |= {alias.asname for alias in node.names if alias.asname}
        elif isinstance(node, ast.Assign):
            name, value = ast.unparse(node.targets[0]), ast.unparse(node.value)
            homes[name] = homes[value]
            offered.add(name)
    return {name: homes[name] for name in offered}


def test_every_name_resolves(package: ModuleType) -> None:
    assert set(package.__all__) >= FROM_THE_TOP[package.__name__]
    assert set(dir(package)) >= {*package.__all__, "__version__"}
    for name in dir(package):
        assert getattr(package, name, None) is not None or name in vars(package), name


def test_a_star_brings_the_names_and_no_more(package: ModuleType) -> None:
    brought: dict[str, object] = {}
    exec(f"from {package.__name__} import *", brought)  # noqa: S102  # the statement is what is tested
    assert set(brought) - {"__builtins__"} == set(package.__all__)


def test_type_checkers_read_the_same_names(package: ModuleType) -> None:
    told = names_for_type_checkers(Path(package.__file__ or "").read_text(encoding="utf-8"))
    assert set(told) == set(package.__all__)
    for name, home in told.items():
        assert resolve_name(home) is getattr(package, name), name


def test_a_name_that_type_checkers_do_not_re_export_is_not_counted() -> None:
    source = "if TYPE_CHECKING:\n    from a import b as b\n    from a import c\n    d = c\n"
    assert names_for_type_checkers(source) == {"b": "a:b", "d": "a:c"}


def test_a_misspelt_name_is_refused_with_the_right_one(package: ModuleType) -> None:
    right = package.__all__[0]
    with pytest.raises(AttributeError, match=rf"{package.__name__}.*'{right}x'; did you mean '{right}'\?"):
        getattr(package, f"{right}x")
    with pytest.raises(AttributeError) as refused:
        _ = package.zzzz
    assert "did you mean" not in str(refused.value)
    assert not hasattr(package, "zzzz")


def test_the_version_is_the_distributions(package: ModuleType) -> None:
    assert package.__version__ == version("finegates-export")


def test_types_are_shipped(package: ModuleType) -> None:
    assert Path(package.__file__ or "").with_name("py.typed").is_file()


def test_importing_and_completing_brings_nothing_heavy() -> None:
    told = f"import sys, {', '.join(PACKAGES)}; {'; '.join(f'dir({name})' for name in PACKAGES)}"
    script = f"{told}; print(sorted(set(sys.modules) & {HEAVY}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
