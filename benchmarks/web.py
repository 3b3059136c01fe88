"""What pruned and unpruned models take in a browser: onnxruntime-web (WASM) in headless Chromium, a page's folder.

The folder was exported with `--target web --baseline RUN --web-libraries node_modules`. For every shape and form a
fresh browser holds both models, which take turns in every round.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finegates_bench.measuring.stamp import make_stamp, stamp_line
from finegates_export.common.files import write_json
from finegates_export.common.shapes import Shape
from finegates_export.costs.timing.statistics import median_interval, ratio_interval
from finegates_export.deploy.web.site import UNPRUNED_FOLDER
from finegates_export.errors import FineGatesError, InputError, MeasurementError
from finegates_export.runtime.bundle_files import read_bundle

SHAPES = ("1x32", "1x128")
ROUNDS = 20
FORMS = {"model.onnx": ("float32", "fp32"), "model_quantized.onnx": ("int8", "q8")}
"""By their files: what they are called here, and in Transformers.js."""
FOLDERS = {"pruned": "./", "unpruned": f"./{UNPRUNED_FOLDER}"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WORKER = Path(__file__).parent / "web_worker.mjs"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", type=Path, required=True, help="the folder")
    parser.add_argument("--modules", type=Path, required=True, help="folder in which npm installed puppeteer-core")
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each shape and form, at least")
    arguments = parser.parse_args()
    try:
        result = measure(arguments.site, arguments.modules, arguments.seconds)
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))
    write_json(arguments.out.with_suffix(".json"), result)
    arguments.out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


def measure(site: Path, modules: Path, seconds: float) -> dict[str, Any]:
    """Time every form at every shape.

    Raises:
        InputError: no bundle with an unpruned model beside it, or no browser.
        MeasurementError: the browser or its driver died.
    """
    info, unpruned = read_bundle(site), read_bundle(site / UNPRUNED_FOLDER)
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise InputError(f"none of {', '.join(BROWSERS)} is on the PATH")
    vocabulary = json.loads((site / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    manifest = json.loads((site / "export.json").read_text(encoding="utf-8"))
    inputs = list(manifest["components"]["model"]["metadata"]["kwargs"])
    spec = {"browser": browser, "folders": FOLDERS, "inputs": inputs, "vocabulary": vocabulary, "rounds": ROUNDS}
    rows, told = [], {}
    with served(site) as url:
        for name in info["graphs"]:
            form, dtype = FORMS[Path(name).name]
            for text in SHAPES:
                shape = Shape.parse(text)
                asked = {"url": url, "dtype": dtype, "batch": shape.batch, "sequence": shape.sequence}
                told = work({**spec, **asked, "seconds": seconds}, modules)
                rows.append({"form": form, "shape": text, **figures(told.pop("taken"))})
    stamp = dataclasses.asdict(dataclasses.replace(make_stamp(told["threads"]), command="make bench-web"))
    models = {"base": info["base"]["name"], "removed": info["report"]["plan"]["removed"]}
    linears = {name: one["report"]["quantized"] for name, one in (("pruned", info), ("unpruned", unpruned))}
    return {"stamp": stamp, **models, **told, "linears": linears, "rows": rows}


def work(spec: dict[str, Any], modules: Path) -> dict[str, Any]:
    """A fresh browser's figures."""
    with tempfile.TemporaryDirectory() as scratch:
        given, result = Path(scratch) / "spec.json", Path(scratch) / "result.json"
        write_json(given, {**spec, "profile": f"{scratch}/profile"})
        words = ["node", str(WORKER), str(given), str(result)]
        variables = {**os.environ, "FINEGATES_NODE_MODULES": str(modules.absolute())}
        done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MeasurementError(f"the browser's driver ended with {done.returncode}: {done.stderr[-500:]}")
        told: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return told


def figures(taken: dict[str, list[float]]) -> dict[str, Any]:
    """Medians and their ratio, with its interval."""
    ratio = ratio_interval([taken["pruned"], taken["unpruned"]], [0], [1])
    medians = {name: median_interval(rounds).median for name, rounds in taken.items()}
    return {**medians, "ratio": ratio.median, "low": ratio.low, "high": ratio.high, "rounds": ratio.rounds}


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder's address on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_words: Any) -> None:
            """A benchmark prints its result."""

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def markdown(result: dict[str, Any]) -> str:
    """The page."""
    stamp = result["stamp"]
    linears = "; ".join(
        f"{name}, {form['products']} of {form['products'] + len(form['left_in_float'])} linears in int8"
        for name, form in result["linears"].items()
        if form
    )
    lines = [
        "# In the browser",
        "",
        f"{result['base']} with {result['removed']:.0%} of its layers' linear weights removed, and unpruned, in "
        f"headless {result['browser']}: {result['libraries']}, threads: {result['threads']}. Medians of rounds that "
        "take turns; a fresh browser for each line.",
        "",
        "| weights | batch x sequence | unpruned, ms | pruned, ms | ratio | 95 % interval | rounds |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['form']} | {row['shape']} | {row['unpruned']:.1f} | {row['pruned']:.1f} | {row['ratio']:.2f} "
        f"| {row['low']:.2f} to {row['high']:.2f} | {row['rounds']} |"
        for row in result["rows"]
    ]
    return "\n".join([*lines, *(["", f"{linears}."] if linears else []), "", stamp_line(stamp)]) + "\n"


if __name__ == "__main__":
    main()
