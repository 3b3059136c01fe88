"""Chromium on a page, driven by page.mjs, and a server of files for it on the loopback.

SPEC    {"url", "browser": its program, "profile": its folder, "texts", "forms": of the model, "width": pixels,
         "scheme": light or dark, "cores": processors to pretend, or null, "screenshot": path or null,
         "seconds": of patience}
RESULT  {"answers": [{"form", "text", "label", "scores", "times", "says", "ratio", "how"}], "said": on the console,
         "requested": addresses, "needed": pixels of width, "background", "status"}
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
INSTALLED = HERE.parent.parent / ".cache" / "web"
REQUIRED = "FINEGATES_WEB_REQUIRED"
"""Set by `make test-web`: a browser or a package that is missing is then a failure."""
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
SECONDS = 240
"""A page that takes longer hangs."""
LOOPBACK = "127.0.0.1"


def need_browser() -> None:
    """Skip, or fail where `make test-web` asks, without Chromium and the packages."""
    missing = "" if BROWSER else "Chromium"
    if not (INSTALLED / ".ready").is_file():
        missing = missing or str(INSTALLED)
    if missing:
        reason = f"{missing} is missing; `make test-web` needs Chromium and npm, and sets up the rest"
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)


@contextlib.contextmanager
def served(folder: Path, *, isolated: bool = False) -> Iterator[str]:
    """A folder's address on the loopback.

    Args:
        folder: what is served.
        isolated: send the headers without which a browser gives a page one thread.
    """

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            if isolated:
                self.send_header("Cross-Origin-Opener-Policy", "same-origin")
                self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            super().end_headers()

        def log_message(self, *_words: Any) -> None:
            """Tests are quiet."""

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer((LOOPBACK, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def visit(url: str, scratch: Path, **asked: Any) -> dict[str, Any]:
    """Open a page and do what is asked.

    Args:
        url: the page's address.
        scratch: an empty folder.
        asked: fields of SPEC.
    """
    need_browser()
    spec, result = scratch / "spec.json", scratch / "result.json"
    usual = {
        "url": url, "browser": BROWSER, "profile": str(scratch / "profile"), "texts": [], "forms": [], "width": 1024,
        "scheme": "light", "cores": None, "screenshot": None, "seconds": SECONDS,
    }  # fmt: skip
    spec.write_text(json.dumps({**usual, **asked}), encoding="utf-8")
    done = subprocess.run(
        ["node", str(HERE / "page.mjs"), str(spec), str(result)],
        env={**os.environ, "FINEGATES_NODE_MODULES": str(INSTALLED)},
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"page.mjs ended with status {done.returncode}: {done.stderr[-3000:]}", pytrace=False)
    told: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return told
