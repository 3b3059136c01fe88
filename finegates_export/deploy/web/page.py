"""The page's own files, and the policy that restricts a browser to the page's own server.

index.html               the page
page/                    its script, style and icon
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from importlib.resources import as_file, files
from pathlib import Path

INDEX_HTML = "index.html"
FOLDER = "page"
SOURCE = "page_files"
"""Their place in this package."""
HASH_PLACE = "IMPORT-MAP-HASH"
"""Placeholder in the page's policy for the hash of its one inline script."""
IMPORT_MAP = re.compile(r'<script type="importmap">(.*?)</script>', re.DOTALL)


def write_page(site: Path) -> None:
    """Put the page into a folder that has none."""
    with as_file(files("finegates_export.deploy.web") / SOURCE) as source:
        text = (source / INDEX_HTML).read_text(encoding="utf-8")
        (site / INDEX_HTML).write_text(text.replace(HASH_PLACE, import_map_hash(text)), encoding="utf-8")
        shutil.copytree(source, site / FOLDER, ignore=shutil.ignore_patterns(INDEX_HTML))


def import_map_hash(page: str) -> str:
    """The hash of a page's import map, in the form of a Content-Security-Policy."""
    (script,) = IMPORT_MAP.findall(page)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"sha256-{digest}"
