"""What is loaded goes to other processes: loaded again where it is unpickled, with new threads after a fork.

An onnxruntime session can be neither pickled nor used after a fork: its threads exist only where it was opened.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finegates_export.common.files import sha256_file
from finegates_export.common.tasks.arrays import Array
from finegates_export.errors import InputError, UnsupportedError
from finegates_export.runtime.bundle_files import BUNDLE_JSON
from finegates_export.runtime.session import GraphValue, OrtSession, SessionOptions, open_session

if TYPE_CHECKING:
    from onnxruntime import IOBinding, ModelMetadata


@dataclass(frozen=True)
class Recipe:
    """How something was loaded."""

    load: Callable[..., Any]
    """The function that loaded it."""
    folder: Path
    """The bundle, as an absolute path."""
    digest: str
    """The sha256 of its `bundle.json`, which has those of all other files."""
    options: dict[str, Any]
    """The arguments of `load` by name."""

    @classmethod
    def of(cls, load: Callable[..., Any], folder: Path, **options: Any) -> Recipe:
        """The recipe of a bundle that was just loaded."""
        return cls(load, folder.absolute(), sha256_file(folder / BUNDLE_JSON), options)


class Reloadable:
    """Is pickled as its recipe, and loaded again where it is unpickled."""

    recipe: Recipe | None = None
    """How it was loaded; None if it was put together by hand."""

    def __reduce__(self) -> tuple[Callable[[Recipe], Any], tuple[Recipe]]:
        if self.recipe is None:
            raise UnsupportedError(f"a {type(self).__name__} that load did not make cannot be pickled; call load there")
        return reload, (self.recipe,)


def reload(recipe: Recipe) -> Any:
    """What `load` gives for a recipe.

    Raises:
        InputError: the bundle is not there, or was replaced since.
    """
    file = recipe.folder / BUNDLE_JSON
    if not file.is_file():
        raise InputError(f"{recipe.folder} is not here: what was loaded from it loads it again; copy the bundle there")
    if sha256_file(file) != recipe.digest:
        raise InputError(f"bundle {recipe.folder} was replaced since it was loaded elsewhere; load it again there")
    return recipe.load(recipe.folder, **recipe.options)


class ForkedSession:
    """A session that is opened again in a process that was forked after it was opened.

    Args:
        graph: the file.
        options: where and how to run it.
    """

    def __init__(self, graph: Path, options: SessionOptions) -> None:
        self._graph, self._options, self._lock = graph, options, threading.Lock()
        self._digest = _stamp(graph)
        self._opened, self._process = open_session(graph, options), os.getpid()

    def _here(self) -> OrtSession:
        """The session of this process."""
        if self._process == os.getpid():
            return self._opened
        with self._lock:
            if self._process != os.getpid():
                if self._options.provider != "cpu":
                    told = f"{self._options.provider} does not work in a process that was forked after load"
                    raise UnsupportedError(f"provider: {told}; start it with spawn, or call load in it")
                if _stamp(self._graph) != self._digest:
                    raise InputError(f"{self._graph} was replaced since it was loaded; call load in this process")
                _keep_forever(self._opened)
                self._opened, self._process = open_session(self._graph, self._options), os.getpid()
        return self._opened

    def get_inputs(self) -> Sequence[GraphValue]:
        """See `Session`."""
        return self._here().get_inputs()

    def get_outputs(self) -> Sequence[GraphValue]:
        """See `Session`."""
        return self._here().get_outputs()

    def get_providers(self) -> list[str]:
        """See `Session`."""
        return self._here().get_providers()

    def get_modelmeta(self) -> ModelMetadata:
        """See `Session`."""
        return self._here().get_modelmeta()

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Array]) -> list[Array]:
        """See `Session`."""
        return self._here().run(output_names, input_feed)

    def io_binding(self) -> IOBinding:
        """See `Session`."""
        return self._here().io_binding()

    def run_with_iobinding(self, iobinding: IOBinding) -> None:
        """See `Session`."""
        self._here().run_with_iobinding(iobinding)


def open_forked(graph: Path, options: SessionOptions) -> OrtSession:
    """A session that survives a fork: with one thread, onnxruntime's own does, and its weights stay shared.

    Args:
        graph: the file.
        options: where and how to run it.
    """
    alone = options.threads == 1 and options.provider == "cpu"
    return open_session(graph, options) if alone else ForkedSession(graph, options)


def _stamp(graph: Path) -> tuple[int, int, int]:
    """What tells that a file was replaced, without reading it."""
    known = graph.stat()
    return known.st_ino, known.st_size, known.st_mtime_ns


def _keep_forever(session: OrtSession) -> None:
    """Never free a parent's session: its end would wait for threads that do not exist in this process."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
