"""What the gateway tells callers when something is wrong, in the shape their SDK expects. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from flywheel_router.reading import RequestInvalid
from flywheel_router.spending import Unaffordable

Headers = list[tuple[bytes, bytes]]

_TYPES: Final = {
    400: "invalid_request_error", 401: "authentication_error", 402: "insufficient_quota", 403: "permission_error",
    404: "invalid_request_error", 405: "invalid_request_error", 409: "invalid_request_error",
    413: "invalid_request_error", 422: "invalid_request_error", 429: "rate_limit_error",
}  # fmt: skip
_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 405: "invalid_request_error", 409: "invalid_request_error", 413: "request_too_large",
    422: "invalid_request_error", 429: "rate_limit_error", 504: "timeout_error",
}  # fmt: skip


class Refused(Exception):
    """A request that is not answered with a model's answer. ``param`` names the field, ``code`` what is the matter."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.retry_after_s = status, param, code, retry_after_s
        self.more = more or {}

    def headers(self) -> Headers:
        """Headers beyond the usual."""
        if self.retry_after_s is None:
            return []
        return [(b"retry-after", b"%d" % max(1, round(self.retry_after_s)))]


def error_body(error: Refused, *, anthropic: bool) -> bytes:
    """The body of a refusal in OpenAI's shape, or in Anthropic's."""
    if anthropic:
        kind = _ANTHROPIC_TYPES.get(error.status, "api_error")
        named = f"{error.param}: {error}" if error.param else str(error)
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": named, **error.more}})
    kind = _TYPES.get(error.status, "server_error")
    told = {"message": str(error), "type": kind, "param": error.param, "code": error.code, **error.more}
    return orjson.dumps({"error": told})


def error_event(error: Refused, *, anthropic: bool) -> bytes:
    """A refusal as an event of a stream that has begun."""
    body = error_body(error, anthropic=anthropic)
    return b"event: error\ndata: " + body + b"\n\n" if anthropic else b"data: " + body + b"\n\n"


def of_invalid(error: RequestInvalid) -> Refused:
    """What is wrong with what deciding was asked; every problem, the first one as the field."""
    problems: Sequence[Any] = error.problems
    message = "; ".join(f"{each.field}: {each.message}" if each.field else each.message for each in problems)
    return Refused(422, message, param=problems[0].field or None, code="invalid_value")


def of_unaffordable(error: Unaffordable) -> Refused:
    """A hard budget leaves no arm: 429 where money may come, 402 where none will."""
    more = {"budget": error.budget, "window_end": error.window_end_us}
    if error.why == "budget_wait":
        return Refused(429, str(error), code=error.why, retry_after_s=error.retry_after_s, more=more)
    return Refused(402, str(error), code=error.why, more=more)
