"""The three ways in which the runner's surroundings fail; what a step says of its input is a value, not an error."""

from __future__ import annotations


class Unavailable(Exception):
    """A dependency is away: wait and try again, for ever. Nothing was lost and nothing is skipped."""

    def __init__(self, detail: str, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s


class Fatal(Exception):
    """Going on would break a promise: stop the process and say why."""


class Revoked(Exception):
    """The partition belongs to somebody else now: drop what is in hand, commit nothing, emit nothing."""
