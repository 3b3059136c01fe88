"""Lays the site out as the repository is, so that a link between two files holds in both.

MkDocs reads one folder. Pages link to reports, to the README and to files of the sources as well; this hook adds all of
these under their path in the repository and moves the pages of `docs/` to theirs.
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "exports/README.md", "benchmarks/*/README.md", "docs/**/*")
REPORTS = ("**/*.md", "**/*.png", "**/*.svg", "**/*.html", "**/*.json")
"""What a report consists of, below `benchmarks/results/`."""
NOT_SHOWN = {".py", ".pyc"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replaces the files of `docs/` by those of the repository, each under its path there; keeps the theme's own."""
    own = Path(config.docs_dir)
    laid_out = Files([file for file in files if not Path(file.abs_src_path or "").is_relative_to(own)])
    wanted = {path for pattern in PAGES for path in ROOT.glob(pattern)}
    wanted |= {path for pattern in REPORTS for path in (ROOT / "benchmarks" / "results").glob(pattern)}
    for path in sorted(wanted):
        place = path.relative_to(ROOT)
        if path.is_file() and path.suffix not in NOT_SHOWN and not any(part.startswith(".") for part in place.parts):
            laid_out.append(File.generated(config, place.as_posix(), abs_src_path=str(path)))
    return laid_out
