"""Which onnxruntime may run a bundle."""

from __future__ import annotations

import re

from finegates_export.common.files import JsonObject
from finegates_export.errors import InputError

OLDEST = (1, 23, 2)
"""The oldest onnxruntime that the tests run with. Before 1.21 it misreads a mask that is broadcast over the heads when
a call has several rows, so that answers depend on their company."""
NUMBERS = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
PACKAGES = ("onnxruntime", "onnxruntime-gpu")


def check_version(version: str, info: JsonObject) -> None:
    """Fail if an onnxruntime is older than any that is known to compute bundles rightly.

    A newer one than the bundle was proven with, or an older one that is new enough, is left to the bundle's check rows;
    so is a build whose version has no numbers.

    Args:
        version: of the onnxruntime that is to run the bundle.
        info: the content of `bundle.json`.

    Raises:
        InputError: it is too old.
    """
    found = NUMBERS.match(version)
    if found is None or tuple(int(part or 0) for part in found.groups()) >= OLDEST:
        return
    known = info.get("versions") or {}
    proven = next((known[name] for name in PACKAGES if name in known), "a newer one")
    oldest = ".".join(map(str, OLDEST))
    raise InputError(
        f"onnxruntime {version} is too old for this bundle, which was proven with {proven}: versions before {oldest} "
        f"compute some graphs wrongly. Run: pip install 'onnxruntime>={oldest}'"
    )
