"""A refused request, as an HTTP status and one line."""

from __future__ import annotations

from collections.abc import Sequence

from finegates_export.deploy.serving.model import Answer

BAD_REQUEST, UNAUTHORIZED, NOT_FOUND, WRONG_METHOD, SLOW = 400, 401, 404, 405, 408
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


def check_answers(found: Sequence[Answer]) -> None:
    """Refuse a request with a text that the model could not read.

    Raises:
        Refused: the first such text.
    """
    for number, answer in enumerate(found):
        if "error" in answer:
            raise Refused(UNPROCESSABLE, f"text {number}: {answer['error']}")
