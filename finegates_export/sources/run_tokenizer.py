"""A run's tokenizer, which its bundle will carry, is read once before the work: damaged or absurd ones end here."""

from __future__ import annotations

from finegates_export.common.json_files import read_object
from finegates_export.common.tasks import task_of
from finegates_export.common.tokenizer_files import TOKENIZER_JSON
from finegates_export.errors import RunFolderError
from finegates_export.sources.run_folder import Run

REMEDY = "copy the base's tokenizer files there and train again"


def check_tokenizer(run: Run) -> None:
    """Refuse a run that reads text with a tokenizer that its bundle could not load.

    Raises:
        RunFolderError: it has no `tokenizer.json`, or one that is too large, nested too deep, or none.
    """
    if task_of(run.info.task).images:
        return
    from tokenizers import Tokenizer

    file = run.folder / TOKENIZER_JSON
    if TOKENIZER_JSON not in run.info.files:
        raise RunFolderError(f"{run.folder} has no {TOKENIZER_JSON} among the files that it lists; {REMEDY}")
    read_object(file, RunFolderError, REMEDY)
    try:
        Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers library has no error class of its own
        raise RunFolderError(f"{file} is no tokenizer ({' '.join(str(error).split())[:200]}); {REMEDY}") from error
