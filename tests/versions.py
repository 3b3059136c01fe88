"""Decoders and encoders with the oldest and the newest versions that are allowed, each in its own environment.

python -m tests.versions oldest newest

A fresh environment takes the extra `export` and what the tests need, with torch, transformers and onnxruntime at one
end of their bounds, and runs the tests of tracing, of caches and of families there. A line an end.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys

from tests.pythons import ROOT, Failed, run

PLACE = ROOT / ".cache" / "versions"
BOUNDED = ("torch", "transformers", "onnxruntime")
"""The packages whose versions change what is traced and computed."""
TESTS = ("tests/export/test_tracing.py", "tests/export/test_cached.py", "tests/export/test_families.py")
BOUND = re.compile(r'"(?P<name>[a-z]+)>=(?P<oldest>[\d.]+),<(?P<above>[\d.]+)"')


def main() -> None:
    """Entry point; exits with 1 where an end fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ends", nargs="+", choices=("oldest", "newest"))
    failed = 0
    for end in parser.parse_args().ends:
        try:
            words = try_end(end)
        except Failed as reason:
            failed += 1
            words = f"FAILED, {reason}"
        sys.stdout.write(f"{end}: {words}\n")
        sys.stdout.flush()
    sys.exit(bool(failed))


def requirements(end: str, project: str) -> list[str]:
    """What pip is asked for, so that it takes one end of every bound.

    Args:
        end: `oldest` or `newest`.
        project: the text of `pyproject.toml`.

    Raises:
        Failed: a package has no bounds there.
    """
    bounds = {found["name"]: found for found in BOUND.finditer(project)}
    missing = [name for name in BOUNDED if name not in bounds]
    if missing:
        raise Failed(f"pyproject.toml gives {missing[0]} no oldest and newest version")
    if end == "oldest":
        return [f"{name}=={bounds[name]['oldest']}" for name in BOUNDED]
    return [f"{name}<{bounds[name]['above']}" for name in BOUNDED]


def try_end(end: str) -> str:
    """Install one end and run the tests there.

    Raises:
        Failed: a step ends with an error.
    """
    wanted = requirements(end, (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    home = PLACE / end
    shutil.rmtree(home, ignore_errors=True)
    own = str(home / "bin" / "python")
    run([sys.executable, "-m", "venv", str(home)])
    # torch first and alone: the processor's build, where one is at hand, is not replaced by a later step.
    for packages in ([wanted[0]], [*wanted, "-e", f"{ROOT}[train]", "pytest", "pytest-timeout", "pytest-xdist"]):
        run([own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
    code = f"import importlib.metadata as m; print(', '.join(f'{{n}} {{m.version(n)}}' for n in {BOUNDED}))"
    told = subprocess.run([own, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    command = [own, "-m", "pytest", "-n", "2", "--tier", "default", *TESTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ})
    last = (done.stdout.strip().splitlines() or ["no output"])[-1]
    if done.returncode:
        raise Failed(f"{told}: {last}")
    return f"passed with {told}"


if __name__ == "__main__":
    main()
