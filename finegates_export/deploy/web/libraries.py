"""The JavaScript libraries of the page: copied from a folder that npm filled."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from finegates_export.common.files import JsonObject, write_json
from finegates_export.errors import InputError

TRANSFORMERS = "@huggingface/transformers"
ONNXRUNTIME = "onnxruntime-web"
MAJOR_VERSION = "4"
"""The major version of Transformers.js that the page supports."""
TRIED_VERSION = "4.3.1"
INSTALL = f"npm install --ignore-scripts {TRANSFORMERS}@{TRIED_VERSION}"
FOLDER = "libraries"
VERSIONS_JSON = "versions.json"
FILES = {
    TRANSFORMERS: ("dist/transformers.web.min.js", "LICENSE"),
    # The build without WebGPU: half as large, and its WASM kernels are the same.
    ONNXRUNTIME: (
        "dist/ort.wasm.bundle.min.mjs",
        "dist/ort-wasm-simd-threaded.mjs",
        "dist/ort-wasm-simd-threaded.wasm",
    ),
}
"""What a page needs of each package."""


@dataclass(frozen=True)
class Package:
    """An installed package."""

    name: str
    folder: Path
    version: str
    licence: str

    def copy(self, folder: Path) -> None:
        """Copy what the page needs into a folder."""
        for file in FILES[self.name]:
            name = Path(file).name
            shutil.copyfile(self.folder / file, folder / (f"{name}.transformers" if name == "LICENSE" else name))


@dataclass(frozen=True)
class Libraries:
    """Transformers.js and its onnxruntime-web."""

    packages: tuple[Package, ...]

    def copy(self, site: Path) -> None:
        """Copy them to `libraries/`, with their versions and licences."""
        folder = site / FOLDER
        folder.mkdir()
        for package in self.packages:
            package.copy(folder)
        told = {package.name: {"version": package.version, "licence": package.licence} for package in self.packages}
        write_json(folder / VERSIONS_JSON, told)


def find_libraries(node_modules: Path) -> Libraries:
    """Look for the libraries where npm puts them.

    Args:
        node_modules: the folder of that name.

    Raises:
        InputError: one of them, or one of its files, is missing, or the page does not support its version.
    """
    transformers = _package(TRANSFORMERS, node_modules / TRANSFORMERS)
    if transformers.version.partition(".")[0] != MAJOR_VERSION:
        raise InputError(
            f"{transformers.folder} is version {transformers.version}, but the page needs version "
            f"{MAJOR_VERSION}; run: {INSTALL}"
        )
    # If another version is installed at the top, npm nests the matching one inside the package.
    own = transformers.folder / "node_modules" / ONNXRUNTIME
    return Libraries((transformers, _package(ONNXRUNTIME, own if own.is_dir() else node_modules / ONNXRUNTIME)))


def _package(name: str, folder: Path) -> Package:
    missing = [file for file in ("package.json", *FILES[name]) if not (folder / file).is_file()]
    if missing:
        raise InputError(f"web-libraries: {folder / missing[0]} is missing; run: {INSTALL}")
    try:
        told: JsonObject = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        return Package(name, folder, str(told["version"]), str(told.get("license", "")))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'package.json'} is damaged ({error}); run: {INSTALL}") from error
