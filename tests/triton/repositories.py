"""What tests of repositories share: bundles to serve, and a stand-in for the backend that the wheel's server lacks."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from finegates_export.deploy.triton import TritonOptions, write_repository

STAND_IN = Path(__file__).parent / "onnxruntime_model.py"


def repository(bundle: Path, out: Path, **options: object) -> Path:
    """A repository of a bundle; one thread, unless options say otherwise."""
    write_repository(TritonOptions(**{"bundle": bundle, "out": out, "threads": 1, **options}))
    return out


def with_stand_in(source: Path, out: Path) -> Path:
    """A copy whose graphs the Python backend runs; nothing else of their configs is changed."""
    shutil.copytree(source, out)
    for model in out.glob("*_graph"):
        config = model / "config.pbtxt"
        told = config.read_text().replace('backend: "onnxruntime"', 'backend: "python"')
        config.write_text(re.sub(r'default_model_filename: "[^"]*"', 'default_model_filename: "model.py"', told))
        shutil.copyfile(STAND_IN, model / "1" / "model.py")
    return out
