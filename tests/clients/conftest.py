"""The bundles that clients are given; `workshop` makes each once."""

from tests.export.conftest import workshop

__all__ = ["workshop"]
