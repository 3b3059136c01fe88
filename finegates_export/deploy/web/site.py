"""What an export for the browser adds to the model: the page, its libraries, and the unpruned model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.tasks import task_of
from finegates_export.deploy.web.libraries import Libraries, find_libraries
from finegates_export.deploy.web.page import write_page
from finegates_export.errors import UnsupportedError

if TYPE_CHECKING:
    from finegates_export.sources.run_folder import Run

UNPRUNED_FOLDER = "unpruned"


@dataclass(frozen=True)
class Site:
    """The page and what it needs."""

    libraries: Libraries | None

    def write(self, folder: Path) -> None:
        """Put page and libraries into a bundle's folder."""
        write_page(folder)
        if self.libraries is not None:
            self.libraries.copy(folder)


def plan_site(run: Run, *, baseline: Path | None, libraries: Path | None) -> Site | None:
    """Collect everything that goes with the model, before anything is exported.

    Args:
        run: the run to export.
        baseline: the run folder of an unpruned model to compare with.
        libraries: where the page's libraries are installed.

    Returns:
        None if the task has no page.

    Raises:
        InputError: the libraries are missing, or the unpruned model has another base or other labels.
        RunFolderError: the unpruned model is missing or damaged.
        UnsupportedError: an option for the page was given, but the task has none.
    """
    from finegates_export.sources.baseline import read_baseline

    if not task_of(run.info.task).has_page:
        given = [flag for flag, place in (("baseline", baseline), ("web-libraries", libraries)) if place is not None]
        if given:
            raise UnsupportedError(
                f"--{given[0]} is for the page, and there is none for {run.info.task}: it labels or scores texts. "
                f"Omit --{given[0]}"
            )
        return None
    if baseline is not None:
        read_baseline(run, baseline)
    return Site(find_libraries(libraries) if libraries else None)
