"""Every link inside the repository's Markdown leads to a file that is there, and every anchor to a heading of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parent.parent
PLACES = ("*.md", "docs/**/*.md", "exports/README.md", "benchmarks/**/*.md", "trainer/**/*.md", "tests/**/*.md")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def pages(root: Path) -> list[Path]:
    return sorted({page for place in PLACES for page in root.glob(place) if ".cache" not in page.parts})


def anchors(page: Path) -> set[str]:
    """The names that GitHub and the site give a page's headings; of equal headings, the first's."""
    headings = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    words = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in words}


def dead_links(root: Path) -> Iterator[str]:
    """One line for each link that leads nowhere: its page, and what it says.

    A folder counts as nowhere: the site has no page for it.

    Args:
        root: of the repository.
    """
    for page in pages(root):
        text = CODE.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))
        for link in LINK.findall(text):
            if ELSEWHERE.match(link):
                continue
            path, _, anchor = unquote(link).partition("#")
            target = (page.parent / path).resolve() if path else page
            inside = target.is_relative_to(root.resolve()) and target.is_file()
            if not inside or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
                yield f"{page.relative_to(root).as_posix()}: {link}"


def test_links_lead_somewhere() -> None:
    assert not list(dead_links(ROOT))


def test_the_site_names_every_page_of_the_documentation() -> None:
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}\n" in listed, f"{page.name} is missing in mkdocs.yml"


@pytest.mark.parametrize(
    ("link", "dead"),
    [
        ("docs/there.md", False),
        ("docs/there.md#what-it-is-for", False),
        ("#here", False),
        ("https://example.org/", False),
        ("docs/gone.md", True),
        ("docs/there.md#what-it-is", True),
        ("#there", True),
        ("docs/", True),
        ("../outside.md", True),
    ],
)
def test_a_dead_link_is_seen(tmp_path: Path, link: str, dead: bool) -> None:
    (tmp_path / "outside.md").touch()
    root = tmp_path / "root"
    (root / "docs").mkdir(parents=True)
    (root / "docs" / "there.md").write_text("# There\n\n## What it is for\n")
    (root / "README.md").write_text(f"# Here\n\n[a link]({link})\n\n```md\n[in code](gone.md)\n```\n`[too](gone.md)`\n")
    assert list(dead_links(root)) == ([f"README.md: {link}"] if dead else [])
