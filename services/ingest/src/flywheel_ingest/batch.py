"""A request body to the items of a batch."""

from __future__ import annotations

from typing import Final

import orjson

from flywheel_ingest.items import MAX_KEY

SHAPE: Final = 'a batch is {"items": [...]} or [...]'


class BodyInvalid(ValueError):
    """A body that is no batch, or whose items cannot be told apart; ``field`` names the place, the message never
    holds a value."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class BodyUnreadable(ValueError):
    """A body that is not valid JSON as a whole; ``salvage`` may still tell its items apart."""


class TooManyItems(ValueError):
    """A batch above the limit."""

    def __init__(self, count: int, most: int) -> None:
        super().__init__(f"has {count} items, at most {most} fit one batch")


def parse(body: bytes, *, max_items: int) -> list[object]:
    """The items of a body.

    Raises:
        BodyInvalid: it is JSON, but not a batch.
        BodyUnreadable: it is not JSON.
        TooManyItems: it has more than ``max_items``.
    """
    if not body.strip():
        raise BodyInvalid("body", f"is empty; {SHAPE}")
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BodyUnreadable(error.msg) from None
    if isinstance(parsed, dict):
        unknown = next((key for key in parsed if key != "items"), None)
        if "items" not in parsed:
            raise BodyInvalid("items", f"is required; {SHAPE}")
        if unknown is not None:
            raise BodyInvalid(unknown[:MAX_KEY], f"no such field; {SHAPE}")
        parsed = parsed["items"]
    if not isinstance(parsed, list):
        raise BodyInvalid("items", "is an array of items")
    if len(parsed) > max_items:
        raise TooManyItems(len(parsed), max_items)
    return parsed
