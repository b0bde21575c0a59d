"""Prompts and answers, redacted, for the content topic. Fails closed: what cannot be redacted is not written."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import orjson

from flywheel.events import event_id
from flywheel.redaction import KINDS, MIN_KEY_BYTES, Policy, PolicyInvalid, Redactor, parse_policies

MOST_BYTES: Final = 400 << 10
"""A content event whose texts are longer is not written: Kafka would not take it."""
_LONGEST_POLICY_CHARS: Final = 2_000_000
_MANY_PROJECTS: Final = 1024


class ContentPolicy:
    """What is written of prompts and answers, by project: the same file and key that ingest has.

    ``closed``: why nothing is written at all; for the operator.
    """

    def __init__(self, path: Path | None, key: bytes | None) -> None:
        self.closed: str | None = None
        text = ""
        try:
            if path is not None:
                with path.open(encoding="utf-8") as file:
                    text = file.read(_LONGEST_POLICY_CHARS)
            book = parse_policies(text)
        except (OSError, UnicodeDecodeError) as error:
            self.closed = f"the policy file {path} cannot be read: {type(error).__name__}"
        except PolicyInvalid as error:
            self.closed = f"the policy cannot be read: {error}"
        keyless = key is None or len(key) < MIN_KEY_BYTES
        if self.closed is None and keyless and any(each.hashes for each in (book.base, *book.projects.values())):
            self.closed = f"a policy hashes and the key has less than {MIN_KEY_BYTES} bytes"

        @lru_cache(maxsize=_MANY_PROJECTS)
        def redactor(project: str) -> tuple[Redactor, str]:
            policy = book.of(project) if self.closed is None else Policy()
            kept = all(policy.action(kind) == "keep" for kind in KINDS)
            return Redactor(policy, key=key, project=project), "none" if kept else "masked"

        self._redactor = redactor

    def event(self, call: dict[str, Any], asked: object, answered: str | None) -> dict[str, Any] | None:
        """The ``call_content`` event of a call, or None where nothing may be written. ``asked`` is JSON's values."""
        if self.closed is not None:
            return None
        redactor, how = self._redactor(call["project"])
        said = _value(redactor, asked)
        told = _text(redactor, answered) if answered else None
        if said is None and told is None:
            return None
        if len((said or "").encode()) + len((told or "").encode()) > MOST_BYTES:
            return None
        return {
            "event_id": event_id("content", call["event_id"]),
            "project": call["project"],
            "request_id": call["request_id"],
            "occurred_at": call["occurred_at"],
            "call_id": call["event_id"],
            "feature": call["feature"],
            "input_text": said,
            "output_text": told,
            "redaction": how,
        }


def _value(redactor: Redactor, value: object) -> str | None:
    """Values are looked at one by one first, as JSON's escapes would hide what they spell; then the whole text."""
    try:
        redacted = redactor.value(value)
        return redactor.text(orjson.dumps(redacted.value).decode()).text
    except (TypeError, ValueError, RecursionError):
        return None


def _text(redactor: Redactor, text: str) -> str | None:
    return redactor.text(text).text
