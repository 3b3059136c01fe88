"""Nobody asks a task for its name: what differs between tasks is a part of the task."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from finegates_export.common.tasks import TASKS

ROOT = Path(__file__).parent.parent.parent
PACKAGES = (ROOT / "finegates_export", ROOT / "trainer" / "finegates_trainer", ROOT / "benchmarks" / "finegates_bench")
ROOM = ROOT / "finegates_export" / "common" / "tasks"
HOLDERS = {"task", "kind", "TASKS", "task_of"}
"""What a task is called where it is held."""


def questions(source: str) -> Iterator[int]:
    """Lines that compare a task, or look something up, by its name or unit."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            named = any(_is_name_of_task(side) for side in sides)
            stored = any(_is_stored(side) for side in sides) and any(_holds_task_names(side) for side in sides)
            if named or stored:
                yield node.lineno
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Dict) and _is_name_of_task(node.slice):
            yield node.lineno


def _is_name_of_task(node: ast.expr) -> bool:
    """`task.name`, `self.task.unit`, `task_of(...).name` and their like."""
    if not (isinstance(node, ast.Attribute) and node.attr in {"name", "unit"}):
        return False
    holder: ast.expr = node.value
    while isinstance(holder, (ast.Call, ast.Subscript)):
        holder = holder.func if isinstance(holder, ast.Call) else holder.value
    return getattr(holder, "attr", getattr(holder, "id", None)) in HOLDERS


def _is_stored(node: ast.expr) -> bool:
    """`info.task`, `options.task` or a variable `task`, which are names as files hold them."""
    return getattr(node, "attr", getattr(node, "id", None)) == "task"


def _holds_task_names(node: ast.expr) -> bool:
    return any(isinstance(one, ast.Constant) and one.value in TASKS for one in ast.walk(node))


def test_no_file_outside_the_room_compares_tasks_by_name() -> None:
    told = [
        f"{file.relative_to(ROOT)}:{line}"
        for package in PACKAGES
        for file in package.rglob("*.py")
        if ROOM not in file.parents
        for line in questions(file.read_text(encoding="utf-8"))
    ]
    assert told == []


@pytest.mark.parametrize("source", [
    'if task.name == "embedding": pass',
    'if self.task.unit in ("row", "label"): pass',
    'x = 1 if task_of(options.task).name != "regression" else 2',
    'if info.task == "embedding" and info.pooling is None: pass',
    'if run.info.task in ("regression", "reranking"): pass',
    '{"row": 1}[model.task.unit]',
    'if "text-generation" != task: pass',
])  # fmt: skip
def test_a_question_is_found(source: str) -> None:
    assert list(questions(source)) == [1]


@pytest.mark.parametrize("source", [
    "if task.generates: pass",
    "if run.info.task != other.info.task: pass",
    "if info.task in TASKS: pass",
    'if node.name == "embedding": pass',
    'usual = USUAL["embedding"]',
])  # fmt: skip
def test_what_is_no_question_is_left_alone(source: str) -> None:
    assert list(questions(source)) == []
