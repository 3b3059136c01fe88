"""Nothing here talks to anybody, and nothing is written outside what was asked for and the cache.

A child process trains, exports, loads, predicts and measures under an audit hook that notes every address it connects
to or looks up, and every file that it opens for writing. `strace`, where there is one, watches what no hook sees.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import tiny_rows

ROOT = Path(__file__).parent.parent
HOOK = """
import json, os, sys
LOG = os.environ["NOTES"]
def note(event, values):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind"):
        told = ["net", str(values[-1] if event != "socket.getaddrinfo" else values[0])]
    elif event == "open" and isinstance(values[0], str) and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        told = ["file", os.path.abspath(values[0])]
    else:
        return
    line = json.dumps(told) + "\\n"
    handle = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if told[1] != LOG else None
    if handle is not None:
        os.write(handle, line.encode())
        os.close(handle)
sys.addaudithook(note)
"""
WORK = """
import sys
from pathlib import Path
from finegates_trainer import TrainOptions, train
from finegates_export import ExportOptions, export, load
from finegates_bench import BenchOptions, measure
base, rows, out = map(Path, sys.argv[1:])
train(TrainOptions(base=str(base), data=str(rows / "rows.tsv"), out=out / "run", epochs=1, max_length=16))
export(ExportOptions(ckpt=out / "run", out=out / "bundle", threads=1))
brief = {"shapes": ("1x8",), "rounds": 2, "seconds": 0.1, "warmup": 1, "processes": 2, "threads": 1}
measure(BenchOptions(ckpt=out / "run", out=out / "report", **brief))
print(load(out / "bundle", threads=1).predict(["a lovely film"])[0].label)
"""
LOOPBACK = ("127.0.0.1", "::1", "/", "localhost")


def environment(folder: Path) -> dict[str, str]:
    """A process of a user with an empty home, whose every Python child is watched."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(HOOK)
    for name in ("home", "temporary"):
        (folder / name).mkdir()
    quiet = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name and name != "XDG_CACHE_HOME"}
    paths = os.pathsep.join([str(site), str(ROOT), str(ROOT / "trainer"), str(ROOT / "benchmarks")])
    own = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "temporary"), "NOTES": str(folder / "notes")}
    return {**quiet, **own, "PYTHONPATH": paths}


def notes(folder: Path, kind: str) -> set[str]:
    """What the hook noted of a kind."""
    lines = [json.loads(line) for line in (folder / "notes").read_text().splitlines()]
    return {what for one, what in lines if one == kind}


def beyond(addresses: set[str]) -> set[str]:
    """The addresses that are not this machine's own."""
    return {one for one in addresses if not any(own in one for own in LOOPBACK)}


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("", "1"), ("0", "0")])
def test_the_import_turns_reports_off_unless_the_user_chose_otherwise(given: str | None, expected: str) -> None:
    told = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    told |= {} if given is None else {"ORT_DISABLE_TELEMETRY": given}
    code = "import finegates_export, os; print(*(os.environ[f'{one}_DISABLE_TELEMETRY'] for one in ('ORT', 'HF_HUB')))"
    done = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == [expected, "1"]


STRANGE = """
import pathlib, socket
try:
    socket.create_connection(("192.0.2.1", 9), 0.01)
except OSError:
    pathlib.Path("noted").write_text("")
"""


def test_the_hook_sees_an_address_and_a_file(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", STRANGE], env=environment(tmp_path), check=True, cwd=tmp_path)
    assert beyond(notes(tmp_path, "net"))
    assert str(tmp_path / "noted") in notes(tmp_path, "file")


@pytest.mark.slow
@pytest.mark.exhaustive
def test_training_exporting_and_predicting_talk_to_nobody_and_write_where_they_should(
    base: Path, tmp_path: Path
) -> None:
    rows, out = tiny_rows(tmp_path / "rows").parent, tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-c", WORK, str(base), str(rows), str(out)]
    trace = tmp_path / "trace"
    if shutil.which("strace"):
        command = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmmsg", "-o", str(trace), *command]
    subprocess.run(command, env=environment(tmp_path), check=True, capture_output=True, text=True, cwd=tmp_path)
    assert not beyond(notes(tmp_path, "net"))
    places = (str(out), str(tmp_path / "home" / ".cache"), str(tmp_path / "temporary"), "/dev/", "/proc/")
    written = {
        one for one in notes(tmp_path, "file") if not one.endswith((".pyc", "notes")) and "__pycache__" not in one
    }
    assert any(one.startswith(str(out)) for one in written)
    assert not {one for one in written if not one.startswith(places)}
    assert not list((tmp_path / "home").rglob("*icrosoft*"))
    if trace.is_file():
        far = [line for line in trace.read_text(errors="replace").splitlines() if "sa_family=AF_INET" in line]
        assert not [line for line in far if not any(own in line for own in LOOPBACK[:2])]
