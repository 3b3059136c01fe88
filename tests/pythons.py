"""The wheel on other versions of Python, each in a fresh environment that has the extra `cpu` and nothing else.

python -m tests.pythons 3.10 3.12 3.13

A tiny bundle is made once with the environment of development. Each version installs the wheel, predicts from the
bundle, has to give the same scores, and must neither hold nor import torch. A line a version; one that has no
interpreter on this machine is said and not counted as passed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLACE = ROOT / ".cache" / "pythons"
TEXTS = ["a great film", "awful", "the story was told so"]
CLOSE = 1e-4
"""Scores may differ by this between two versions of onnxruntime."""
PROBE = """
import importlib.util, json, sys
import finegates_export
given = json.load(sys.stdin)
found = finegates_export.load(given["bundle"], threads=1).predict(given["texts"])
print(json.dumps({
    "version": ".".join(map(str, sys.version_info[:3])),
    "installed": importlib.util.find_spec("torch") is not None,
    "imported": "torch" in sys.modules,
    "from": finegates_export.__file__,
    "scores": [one.scores for one in found],
}))
"""
"""What runs in every environment, that of development included."""


class Failed(Exception):  # noqa: N818  # one version's end, told in its line
    """Why a version does not pass, on one line."""


def main() -> None:
    """Entry point; exits with 1 where a version fails, or where none could be tried."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="+", help="such as 3.12")
    versions = parser.parse_args().versions
    shutil.rmtree(PLACE, ignore_errors=True)
    bundle, wheel = make_bundle(PLACE), build_wheel(PLACE)
    expected = probe(Path(sys.executable), bundle)["scores"]
    failed = passed = 0
    for version in versions:
        python = find_python(version)
        if python is None:
            sys.stdout.write(f"{version}: NOT TRIED, no interpreter of this version found\n")
            continue
        try:
            words = try_version(python, wheel, bundle, PLACE / version, expected)
        except Failed as reason:
            failed += 1
            words = f"FAILED, {reason}"
        else:
            passed += 1
        sys.stdout.write(f"{version}: {words}\n")
        sys.stdout.flush()
    sys.exit(bool(failed) or not passed)


def make_bundle(place: Path) -> Path:
    """A tiny classifier, exported."""
    from transformers.utils.logging import disable_progress_bar

    from finegates_export import ExportOptions, export
    from tests.tiny import tiny_base, tiny_run

    disable_progress_bar()
    run = tiny_run(place / "run", tiny_base(place / "base", layers=1), "coupled")
    export(ExportOptions(ckpt=run, out=place / "bundle", threads=1))
    return place / "bundle"


def build_wheel(place: Path) -> Path:
    """The wheel of this checkout."""
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(place / "wheel"), str(ROOT)])
    (wheel,) = (place / "wheel").glob("finegates_export-*.whl")
    return wheel


def find_python(version: str) -> Path | None:
    """The first interpreter of a version that starts: uv's, then those on the PATH, then pyenv's."""
    return next((python for python in _candidates(version) if _is_version(python, version)), None)


def try_version(python: Path, wheel: Path, bundle: Path, home: Path, expected: list[dict[str, float]]) -> str:
    """Install, predict and compare.

    Raises:
        Failed: a step ends with an error, or the answers are not those of `expected`.
    """
    own = home / "bin" / "python"
    run([str(python), "-m", "venv", str(home)])
    run([str(own), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "-c", str(ROOT / "constraints.txt"), f"{wheel}[cpu]"])  # fmt: skip
    told = probe(own, bundle)
    if told["installed"] or told["imported"]:
        raise Failed("torch is in an environment that was to do without")
    if not Path(told["from"]).is_relative_to(home):
        raise Failed(f"finegates_export came from {told['from']} and not from the wheel")
    furthest = difference(told["scores"], expected)
    if furthest > CLOSE:
        raise Failed(
            f"scores differ by {furthest:.1e} from those of Python {sys.version_info[0]}.{sys.version_info[1]}"
        )
    return f"passed, Python {told['version']}, no torch, scores within {furthest:.0e}"


def probe(python: Path, bundle: Path) -> dict[str, object]:
    """What `PROBE` prints in one environment; it starts elsewhere, so that the checkout is not imported by chance."""
    given = json.dumps({"bundle": str(bundle), "texts": TEXTS})
    return json.loads(run([str(python), "-c", PROBE], given))


def difference(found: list[dict[str, float]], expected: list[dict[str, float]]) -> float:
    """The largest difference of any score; infinite where the labels are others."""
    if [one.keys() for one in found] != [one.keys() for one in expected]:
        return float("inf")
    pairs = zip(found, expected, strict=True)
    return max(abs(one[label] - other[label]) for one, other in pairs for label in one)


def run(command: list[str], given: str | None = None) -> str:
    """Run to the end and return what it prints.

    Raises:
        Failed: the command ended with an error.
    """
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, cwd=PLACE, env=clean)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise Failed(f"{Path(command[0]).name} {command[2] if command[1] == '-m' else 'prediction'}: {last}")
    return done.stdout


def _candidates(version: str) -> Iterator[Path]:
    if shutil.which("uv"):
        found = subprocess.run(["uv", "python", "find", version], capture_output=True, text=True, check=False)
        yield Path(found.stdout.strip())
    on_path = shutil.which(f"python{version}")
    if on_path:
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted((pyenv / "versions").glob(f"{version}.*/bin/python"))


def _is_version(python: Path, version: str) -> bool:
    """A shim of pyenv may stand for a version that is not chosen; it then starts nothing."""
    if not python.is_file():
        return False
    asked = [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == version


if __name__ == "__main__":
    main()
