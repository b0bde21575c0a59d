"""A request body to the items of a batch."""

from __future__ import annotations

from typing import Final

import orjson

from flywheel_ingest.items import MAX_KEY

SHAPE: Final = 'a batch is {"items": [...]} or [...]'


LARGE_BYTES: Final = 1 << 20
MANY_VALUES: Final = 200_000


class BodyInvalid(ValueError):
    """A body that is no batch, or whose items cannot be told apart; ``field`` names the place, the message never
    holds a value."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class BodyUnreadable(ValueError):
    """A body that is not to be parsed as a whole; ``salvage`` may still tell its items apart."""


class TooManyItems(ValueError):
    """A batch above the limit."""

    def __init__(self, count: int, most: int) -> None:
        super().__init__(f"has {count} items, at most {most} fit one batch")


def parse(body: bytes, *, max_items: int) -> list[object]:
    """The items of a body.

    Raises:
        BodyInvalid: it is JSON, but not a batch.
        BodyUnreadable: it is not JSON, or so full of commas and brackets that its values could take twenty times its
            size in memory; where they stand in texts, ``salvage`` takes it.
        TooManyItems: it has more than ``max_items``.
    """
    if not body.strip():
        raise BodyInvalid("body", f"is empty; {SHAPE}")
    if len(body) > LARGE_BYTES and sum(map(body.count, b",[{")) > MANY_VALUES:
        raise BodyUnreadable("many small values")
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
