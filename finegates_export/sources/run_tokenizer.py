"""A run's tokenizer, which its bundle will carry, is read once before the work: damaged or absurd ones end here."""

from __future__ import annotations

from finegates_export.common.json_files import read_object
from finegates_export.common.tasks import task_of
from finegates_export.common.tokenizer_files import TOKENIZER_JSON
from finegates_export.errors import RunFolderError
from finegates_export.sources.run_folder import Run

REMEDY = "copy the base's tokenizer files there and train again"


def check_tokenizer(run: Run) -> None:
    """Refuse a run with a tokenizer that its bundle could not load.

    Raises:
        RunFolderError: its `tokenizer.json` is too large, nested too deep, or no tokenizer.
    """
    if TOKENIZER_JSON not in run.info.files:
        return
    from tokenizers import Tokenizer

    file = run.folder / TOKENIZER_JSON
    read_object(file, RunFolderError, REMEDY)
    try:
        Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers library has no error class of its own
        raise RunFolderError(f"{file} is no tokenizer ({' '.join(str(error).split())[:200]}); {REMEDY}") from error


def check_has_tokenizer(run: Run) -> None:
    """Refuse a run that reads text and has no tokenizer, where a bundle is to be made of it.

    Raises:
        RunFolderError: there is no `tokenizer.json` among its files.
    """
    if TOKENIZER_JSON not in run.info.files and not task_of(run.info.task).images:
        raise RunFolderError(f"{run.folder} has no {TOKENIZER_JSON} among the files that it lists; {REMEDY}")
