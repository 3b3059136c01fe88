"""Imports point one way: a room imports only rooms to its left, whoever asks (lazily, or for a type alone)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXPORT = (
    ("errors",),
    ("common",),
    ("families", "runtime"),
    ("gates",),
    ("sources",),
    ("pruning",),
    ("graphs",),
    ("verification", "costs", "deploy"),
    ("pipeline",),
    ("cli", ""),
)
"""The rooms of `finegates_export` from left to right; rooms of one place do not import each other. `""` is its face."""
PLACE = {room: place for place, rooms in enumerate(EXPORT) for room in rooms} | {"__main__": len(EXPORT)}
PACKAGES = {
    "finegates_export": ROOT / "finegates_export",
    "finegates_trainer": ROOT / "trainer" / "finegates_trainer",
    "finegates_bench": ROOT / "benchmarks" / "finegates_bench",
}
ORDER = tuple(PACKAGES)
RUNTIME_SEES = {"runtime", "common", "errors"}
MOST_LOOSE = 4
MOST_ROOMS, MOST_LEVELS = 17, 10
VERBS = {"export", "load", "verify"}
"""A room of such a name would replace the public function as soon as anybody imported it."""


def modules() -> dict[str, Path]:
    """Every file of the three packages, by its dotted name."""
    return {
        ".".join([package, *file.relative_to(home).with_suffix("").parts]).removesuffix(".__init__"): file
        for package, home in PACKAGES.items()
        for file in home.rglob("*.py")
    }


def imports_of(source: str, known: set[str]) -> Iterator[tuple[int, str]]:
    """Line and module of every import of the project, those inside functions and under TYPE_CHECKING too.

    A string that is a module's name, alone or as `module:attribute`, is an import as well: a table of public names, a
    worker's process and `import_module` load it later. Relative imports are ruff's to refuse.

    Args:
        source: of the file.
        known: the project's modules.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if inner in known else node.module
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            module = node.value.partition(":")[0]
            if "." in module and module in known:
                yield node.lineno, module


def room_of(module: str) -> tuple[str, str]:
    """Package and room of a module."""
    package, _, rest = module.partition(".")
    return package, rest.partition(".")[0]


def against_the_order(source: str, importer: str, known: set[str]) -> list[str]:
    """A line for every import that runs back, both rooms named."""
    package, room = room_of(importer)
    told = []
    for line, module in imports_of(source, known):
        other, target = room_of(module)
        if other not in PACKAGES or (other, target) == (package, room):
            continue
        if other != package:
            back = ORDER.index(other) > ORDER.index(package)
        else:
            back = package == "finegates_export" and PLACE[target] >= PLACE[room]
        runtime = (package, room) == ("finegates_export", "runtime") and target not in RUNTIME_SEES
        if back or runtime:
            told.append(f"{importer}:{line}: {package}.{room} imports {other}.{target}, which is not to its left")
    return told


def test_every_import_points_to_the_left() -> None:
    known = modules()
    told = [line for name, file in known.items() for line in against_the_order(file.read_text(), name, set(known))]
    assert not told, "\n".join(told)


@pytest.mark.parametrize("source", [
    "from finegates_export.pruning.plan import ShrinkPlan",
    "def late():\n    import finegates_export.pruning.plan",
    "if TYPE_CHECKING:\n    from finegates_export.pruning import plan",
    "from finegates_export import pruning",
    "def late():\n    import_module('finegates_export.pruning.plan')",
    "HOMES = {'Plan': 'finegates_export.pruning.plan:ShrinkPlan'}",
])  # fmt: skip
def test_an_import_against_the_order_is_told_with_both_rooms(source: str) -> None:
    known = {*modules(), "finegates_export.pruning.plan"}
    (told,) = against_the_order(source, "finegates_export.gates.bank", known)
    assert "finegates_export.gates imports finegates_export.pruning" in told
    assert not against_the_order(source, "finegates_export.pipeline.export", known)


def test_rooms_side_by_side_do_not_know_each_other() -> None:
    known = set(modules())
    assert against_the_order("from finegates_export.costs import grid", "finegates_export.verification.chain", known)
    assert against_the_order("from finegates_export.families import bert", "finegates_export.runtime.session", known)
    assert against_the_order("import finegates_trainer", "finegates_export.cli", known)
    assert against_the_order("import finegates_bench.cli", "finegates_trainer.cli", known)
    assert not against_the_order("import finegates_export", "finegates_trainer.cli", known)


def edges_of(known: dict[str, Path]) -> dict[str, set[str]]:
    """The modules that each module imports."""
    edges: dict[str, set[str]] = {name: set() for name in known}
    for name, file in known.items():
        edges[name] |= {one for _, one in imports_of(file.read_text(), set(known)) if one in known and one != name}
    return edges


def rooms_of(edges: dict[str, set[str]]) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """The rooms that each room imports; a package's face is none."""
    rooms: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for name, others in edges.items():
        here = room_of(name)
        if here[1]:
            rooms.setdefault(here, set()).update(room_of(one) for one in others if room_of(one)[1])
    return {room: others - {room} for room, others in rooms.items()}


def levels_of(rooms: dict[tuple[str, str], set[tuple[str, str]]]) -> dict[tuple[str, str], int]:
    """A room stands above all that it imports; the lowest is on level 1."""
    levels: dict[tuple[str, str], int] = {}
    for room in TopologicalSorter(rooms).static_order():
        levels[room] = 1 + max((levels[one] for one in rooms[room]), default=0)
    return levels


def test_no_circle_among_modules_nor_among_rooms() -> None:
    edges = edges_of(modules())
    assert list(TopologicalSorter(edges).static_order())
    assert levels_of(rooms_of(edges))
    with pytest.raises(CycleError):
        levels_of(rooms_of({**edges, "finegates_export.gates.bank": {"finegates_export.pruning.plan"}}))


def test_the_house_has_few_rooms_and_levels() -> None:
    rooms = [place for place in PACKAGES["finegates_export"].iterdir() if (place / "__init__.py").is_file()]
    loose = [file.name for file in PACKAGES["finegates_export"].glob("*.py")]
    levels = {room: level for room, level in levels_of(rooms_of(edges_of(modules()))).items() if room[1] != "__main__"}
    assert len(loose) <= MOST_LOOSE, loose
    assert len(rooms) <= MOST_ROOMS
    assert max(level for room, level in levels.items() if room[0] == "finegates_export") <= MOST_LEVELS
    assert {place.name for place in rooms} | {file.removesuffix(".py") for file in loose} - {"__init__"} <= PLACE.keys()
    assert not VERBS & {place.name for place in rooms}


LONGEST, MOST_PARAMETERS = 60, 7


def too_large(source: str) -> list[str]:
    """Functions of more lines or parameters than one can read at a glance."""
    told = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            parameters = len([name for name in names if name not in ("self", "cls")])
            if lines > LONGEST or parameters > MOST_PARAMETERS:
                told.append(f"{node.name}: {lines} lines, {parameters} parameters")
    return told


def test_every_function_of_the_pipeline_can_be_read_at_a_glance() -> None:
    files = PACKAGES["finegates_export"].joinpath("pipeline").rglob("*.py")
    assert not [(file.name, told) for file in files if (told := too_large(file.read_text()))]
    assert too_large(f"def wide({', '.join('abcdefgh')}): ...") == ["wide: 1 lines, 8 parameters"]
    assert too_large("def long():\n" + "    pass\n" * LONGEST) == ["long: 61 lines, 0 parameters"]


def test_there_is_one_way_to_open_a_session() -> None:
    known = modules()
    opening = [name for name, file in known.items() if "InferenceSession(" in file.read_text()]
    assert opening == ["finegates_export.runtime.session"]
