"""The page in a browser, opened from its file: every plot is there, nothing goes wrong, a phone scrolls one way.

Needs Chromium or Chrome; skipped where there is none.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest

from finegates_bench import BenchReport

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
SECONDS = 120
"""A browser starts within a second or two; a busy machine may need longer."""
NARROW = 360
"""Pixels of a small phone."""

pytestmark = pytest.mark.skipif(not BROWSER, reason="needs chromium, chromium-browser or google-chrome on the PATH")


def opened(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The page as the browser understood it, and what its console said."""
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    done = subprocess.run(
        [*words, "--enable-logging=stderr", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, check=True, timeout=SECONDS,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE:" in line]


def narrow(page: str, folder: Path) -> Path:
    """A page that shows another as wide as a phone and says in its title what it must scroll over, of how much."""
    measure = "const e = this.contentDocument.documentElement; document.title = e.scrollWidth + ' ' + e.clientWidth"
    frame = f'<iframe width="{NARROW}" height="800" srcdoc="{escape(page)}" onload="{measure}"></iframe>'
    (folder / "narrow.html").write_text(f"<!doctype html><title>none</title>{frame}", encoding="utf-8")
    return folder / "narrow.html"


def widths(dom: str) -> tuple[int, int]:
    told = re.search(r"<title>(\d+) (\d+)</title>", dom)
    assert told, "the frame did not load"
    return int(told[1]), int(told[2])


def test_every_plot_is_drawn_and_the_console_is_silent(
    report_folder: Path, measured: BenchReport, tmp_path: Path
) -> None:
    dom, said = opened(report_folder / "index.html", tmp_path / "profile")
    assert said == []
    levels = ("level-0.20", "what-if-0.3", "level-0.40")
    wanted = [f"{plot}-{shape}" for plot in ("metric", "latency") for shape in measured.shapes]
    for name in [*wanted, *(f"plan-{level}" for level in levels)]:
        figure = re.search(rf'<figure id="{re.escape(name)}".*?</figure>', dom, re.DOTALL)
        assert figure, name
        assert "<svg" in figure[0], name
        assert figure[0].count("<path") > 5, name


def test_a_page_that_goes_wrong_is_heard(tmp_path: Path) -> None:
    page = tmp_path / "wrong.html"
    page.write_text("<!doctype html><script>nobody()</script>", encoding="utf-8")
    assert len(opened(page, tmp_path / "profile")[1]) == 1


@pytest.mark.slow
def test_a_phone_does_not_scroll_sideways(report_folder: Path, tmp_path: Path) -> None:
    page = (report_folder / "index.html").read_text(encoding="utf-8")
    needed, there = widths(opened(narrow(page, tmp_path), tmp_path / "profile")[0])
    assert needed == there <= NARROW
    spilling = page.replace(".scroll { overflow-x: auto; }", "")
    assert spilling != page
    needed, there = widths(opened(narrow(spilling, tmp_path), tmp_path / "again")[0])
    assert needed > there, "tables are wider than a phone: without their boxes the page scrolls"
