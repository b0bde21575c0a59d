"""Recorded calls, feedback and evaluations in a JSONL file, posted to ingest at a chosen speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, cast

import httpx
import orjson

Kind = Literal["calls", "feedback", "evaluations"]
MARKS: Final[dict[str, Kind]] = {"call": "calls", "feedback": "feedback", "evaluation": "evaluations"}
BATCH: Final = 500
TRIES: Final = 5


class RecordInvalid(ValueError):
    """A line that is no recorded item; names file and line."""


class PostFailed(RuntimeError):
    """Ingest could not be reached, or refused the whole batch."""


@dataclass(frozen=True, slots=True)
class Item:
    """One recorded item: which route takes it, when it happened (microseconds since the epoch), and its JSON."""

    kind: Kind
    occurred_at_us: int
    body: dict[str, Any]
    line: int


@dataclass(slots=True)
class Posted:
    """What ingest said of the items."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    first_errors: tuple[str, ...] = ()


def read_items(path: Path) -> Iterator[Item]:
    """Items in file order. A line is ``{"call": {…}}``, ``{"feedback": {…}}`` or ``{"evaluation": {…}}``, or such an
    object bare.

    Raises ``RecordInvalid``.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if raw.strip():
                yield _item(path, number, raw)


def _item(path: Path, number: int, raw: bytes) -> Item:
    where = f"{path.name} line {number}"
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise RecordInvalid(f"{where}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RecordInvalid(f"{where}: not an object")
    kind: Kind
    if len(found) == 1 and next(iter(found)) in MARKS:
        mark, body = next(iter(found.items()))
        kind = MARKS[mark]
    elif "request_model" in found:
        kind, body = "calls", found
    elif "evaluator" in found:
        kind, body = "evaluations", found
    elif "kind" in found:
        kind, body = "feedback", found
    else:
        raise RecordInvalid(f"{where}: neither a call (request_model), an evaluation (evaluator) nor feedback (kind)")
    if not isinstance(body, dict):
        raise RecordInvalid(f"{where}: {kind} is not an object")
    return Item(kind, _time_us(where, body.get("occurred_at")), cast(dict[str, Any], body), number)


def _time_us(where: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(datetime.fromisoformat(value).timestamp() * 1_000_000)
        except ValueError as error:
            raise RecordInvalid(f"{where}: occurred_at: {error}") from error
    raise RecordInvalid(f"{where}: occurred_at is neither microseconds nor RFC 3339 text")


def post_items(
    items: Iterable[Item],
    client: httpx.Client,
    *,
    speed: float | None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Posted:
    """Post items in order; ``speed`` 2.0 plays them twice as fast as they happened, ``None`` as fast as ingest takes
    them.

    Raises ``PostFailed``.
    """
    posted = Posted()
    batch: list[Item] = []
    first_us: int | None = None
    started_s = clock()
    for item in items:
        first_us = item.occurred_at_us if first_us is None else first_us
        due_s = 0.0 if speed is None else (item.occurred_at_us - first_us) / 1e6 / speed
        ahead_s = due_s - (clock() - started_s)
        if batch and (item.kind != batch[0].kind or len(batch) >= BATCH or ahead_s > 0.05):
            _post(client, batch, posted)
            batch = []
        if ahead_s > 0:
            sleep(ahead_s)
        batch.append(item)
    if batch:
        _post(client, batch, posted)
    return posted


def _post(client: httpx.Client, batch: list[Item], posted: Posted) -> None:
    content = orjson.dumps({"items": [item.body for item in batch]})
    for attempt in range(1, TRIES + 1):
        try:
            answer = client.post(f"/v1/{batch[0].kind}", content=content, headers={"content-type": "application/json"})
        except httpx.HTTPError as error:
            raise PostFailed(f"posting to ingest at {client.base_url}: {error}; is the system up?") from error
        if answer.status_code != 503 or attempt == TRIES:
            break
        time.sleep(min(5.0, float(answer.headers.get("retry-after", "1"))))
    if answer.status_code not in {200, 207, 422}:
        raise PostFailed(f"posting to ingest: HTTP {answer.status_code}: {answer.text[:200]}")
    verdicts = answer.json().get("items")
    if not isinstance(verdicts, list):
        raise PostFailed(f"posting to ingest: {answer.text[:200]}")
    for verdict in verdicts:
        match verdict["status"]:
            case "accepted":
                posted.accepted += 1
            case "duplicate":
                posted.duplicates += 1
            case _:
                posted.rejected += 1
                if len(posted.first_errors) < 5:
                    first = (verdict.get("errors") or [{"field": "", "message": "rejected"}])[0]
                    line = batch[verdict["index"]].line
                    posted.first_errors += (f"line {line}: {first['field']}: {first['message']}",)
