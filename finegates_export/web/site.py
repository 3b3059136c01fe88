"""What an export for the browser puts beside the model: the page, its libraries, and the unpruned model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.errors import UnsupportedError
from finegates_export.targets.web import NAME
from finegates_export.tasks import LOGITS, Task, task_of
from finegates_export.web.libraries import Libraries, find_libraries
from finegates_export.web.page import write_page

if TYPE_CHECKING:
    from finegates_export.export_options import ExportOptions
    from finegates_export.gates.run_folder import Run

UNPRUNED_FOLDER = "unpruned"
UNITS = ("row", "label", "score")
"""Units of prediction that the page shows."""


@dataclass(frozen=True)
class Site:
    """The page and what it needs."""

    libraries: Libraries | None

    def write(self, folder: Path) -> None:
        """Put page and libraries into a bundle's folder."""
        write_page(folder)
        if self.libraries is not None:
            self.libraries.copy(folder)


def plan_site(options: ExportOptions, run: Run) -> Site | None:
    """Find all that goes beside the model, before anything is exported.

    Args:
        options: of the export.
        run: what is exported.

    Returns:
        None where an export gets no page.

    Raises:
        InputError: the libraries are not there, or the unpruned model is one of another base or of other labels.
        RunFolderError: the unpruned model is missing or damaged.
        UnsupportedError: something was given for the page, and the task has none.
    """
    from finegates_export.baseline import read_baseline

    file = options.out is None or options.out.suffix == ".onnx"
    if options.target != NAME or not options.page or file:
        return None
    if not has_page(task_of(run.info.task)):
        given = [name for name in ("baseline", "web_libraries") if getattr(options, name) is not None]
        if given:
            raise UnsupportedError(
                f"--{given[0].replace('_', '-')} is for the page, and there is none for {run.info.task}: it labels or "
                "scores texts. Leave it away"
            )
        return None
    if options.baseline is not None:
        read_baseline(run, options.baseline)
    return Site(find_libraries(options.web_libraries) if options.web_libraries else None)


def has_page(task: Task) -> bool:
    """Whether the page shows what a model of this task says."""
    return task.outputs == (LOGITS,) and task.unit in UNITS and not task.images
