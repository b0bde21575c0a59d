"""Bodies of ledger entries: what a service writes to itself, as JSON in one text field. Read, it is input like any."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from flywheel.stream.types import Reject

_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def as_body(value: Any) -> str:
    """Return JSON values as the text of a body; the same values give the same text."""
    return _ENCODER.encode(value)


def body_of(value: Mapping[str, Any]) -> dict[str, Any] | Reject:
    """Return what the entry carries in its field ``body``."""
    try:
        found = json.loads(value["body"])
    except (ValueError, RecursionError):
        return Reject("not_json", "body", "must be a JSON object")
    return found if isinstance(found, dict) else Reject("not_json", "body", "must be a JSON object")
