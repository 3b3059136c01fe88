"""The folders that tests of exports share."""

from __future__ import annotations

from tests.export.conftest import workshop

__all__ = ["workshop"]
