"""A refused request, as an HTTP status and one line."""

from __future__ import annotations

BAD_REQUEST, NOT_FOUND, WRONG_METHOD = 400, 404, 405
TOO_LARGE, UNPROCESSABLE, TOO_MANY = 413, 422, 429
FAILED, UNAVAILABLE, TOO_LATE = 500, 503, 504


class Refused(Exception):  # noqa: N818  # an outcome that the protocol has a place for
    """A request, or one of its texts, is refused.

    Args:
        status: the HTTP status.
        message: what is wrong, with the limit and the value.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message
