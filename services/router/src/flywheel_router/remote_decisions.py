"""Decisions that clients made in their own process: read strictly, because the estimates made from the log are only as
honest as its propensities."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

from flywheel.events import event_id
from flywheel.policy.linear_policy import unreadable
from flywheel_router.decision_log import LogFull
from flywheel_router.reading import MAX_ID_CHARS, MAX_NAME_CHARS, Problem, RequestInvalid, read_project, read_text
from flywheel_router.recent import Recent

MAX_ARMS: Final = 256
MAX_ENTRIES: Final = 64
MAX_ENTRY_CHARS: Final = 4096
TOLERANCE: Final = 1e-6
REASONS: Final = frozenset(
    {
        "policy",
        "no_policy",
        "stale_policy",
        "nothing_eligible",
        "unknown_feature",
        "router_away",
        "paused",
        "no_context",
    }
)
_TEXTS: Final = ("model", "prompt_name", "prompt_version", "app", "environment", "team", "user_hash", "trace_id")
_REQUIRED: Final = (
    "feature", "request_id", "occurred_at", "policy_version", "policy_kind", "arm", "propensity", "arms",
    "propensities", "reason",
)  # fmt: skip
_DEFAULTED: Final = (
    "event_id", "project", "policy", "propensity_error", "params", "fallback", "context", "policy_age_ms",
)  # fmt: skip
FIELDS: Final = frozenset({*_REQUIRED, *_DEFAULTED, *_TEXTS, "user", "control", "features", "encoding"})
_OVERHEAD_BYTES: Final = 128
_ITEMS_AT_ONCE: Final = 8
MAX_ITEM_BYTES: Final = 64 * 1024
EARLIEST_US: Final = 946_684_800_000_000  # 2000-01-01: what is older has the wrong unit
MOST_FUTURE_US: Final = 600_000_000
_LARGEST: Final = 1e15


class Log(Protocol):
    """Where decisions are written."""

    def append(self, event: Mapping[str, Any], traceparent: str | None = None) -> None: ...

    def fits(self, size_bytes: int) -> bool: ...


class RemoteDecisions:
    """Logs what clients decided; the same decision given twice within memory is one."""

    def __init__(
        self, log: Log, hash_user: Callable[[str, str], str | None], clock_us: Callable[[], int], *, remembered: int
    ) -> None:
        self._log = log
        self._clock_us = clock_us
        self._hash_user = hash_user
        self._known: Recent[str, bool] = Recent(remembered)

    async def log(self, items: Sequence[object], size_bytes: int, traceparent: str | None) -> list[dict[str, Any]]:
        """Log each item that holds together; return a verdict for each. ``size_bytes``: of all of them, as JSON.

        Raises:
            LogFull: not all of them would fit. What was logged before that showed is a duplicate the next time.
        """
        if not self._log.fits(size_bytes + _OVERHEAD_BYTES * len(items)):
            raise LogFull("the journal has no room for the batch")
        verdicts: list[dict[str, Any]] = []
        for index, item in enumerate(items):
            if index % _ITEMS_AT_ONCE == _ITEMS_AT_ONCE - 1:
                await asyncio.sleep(0)  # somebody waits for a decision
            try:
                event = read_decision(item, self._hash_user, self._clock_us())
            except RequestInvalid as error:
                errors = [{"field": problem.field, "message": problem.message} for problem in error.problems]
                verdicts.append({"index": index, "status": "rejected", "errors": errors})
                continue
            identity = event["event_id"]
            status = "duplicate" if self._known.get(identity) else "accepted"
            if status == "accepted":
                self._log.append(event, traceparent)
                self._known[identity] = True
            verdicts.append({"index": index, "event_id": identity, "status": status})
        return verdicts


def read_decision(item: object, hash_user: Callable[[str, str], str | None], now_us: int) -> dict[str, Any]:
    """Turn a client's decision into a decision event.

    Raises:
        RequestInvalid: a field is missing, unknown or of the wrong type; the time is not plausible; the propensities
            do not add up to 1; the arm is not among the arms or its propensity is another; the id is not the one
            these fields give; all of it is too large for a record.
    """
    if not isinstance(item, dict):
        raise RequestInvalid([Problem("", "a decision is a JSON object")])
    if len(orjson.dumps(item)) > MAX_ITEM_BYTES:
        raise RequestInvalid([Problem("", f"a decision has at most {MAX_ITEM_BYTES} bytes")])
    problems = [Problem(str(name)[:64], _why_not(name)) for name in sorted(item.keys() - FIELDS)]
    event: dict[str, Any] = {
        "project": read_project(item.get("project", "default"), problems),
        "feature": read_text(item.get("feature"), "feature", MAX_NAME_CHARS, problems),
        "request_id": read_text(item.get("request_id"), "request_id", MAX_ID_CHARS, problems),
        "arm": read_text(item.get("arm"), "arm", MAX_NAME_CHARS, problems),
        "policy_kind": read_text(item.get("policy_kind"), "policy_kind", MAX_NAME_CHARS, problems),
        "policy_version": _whole(item.get("policy_version"), "policy_version", problems),
        "occurred_at": _time(item.get("occurred_at"), now_us, problems),
        "reason": _reason(item.get("reason"), problems),
        "fallback": _flag(item.get("fallback", False), "fallback", problems),
        "propensity_error": _number(item.get("propensity_error", 0.0), "propensity_error", problems),
        "params": _text_map(item.get("params", {}), "params", problems),
        "context": _text_map(item.get("context", {}), "context", problems),
        "decider": "client",
    }
    event["policy"] = read_text(item.get("policy", event["feature"]), "policy", MAX_NAME_CHARS, problems)
    if item.get("policy_age_ms") is not None:
        event["policy_age_ms"] = _number(item["policy_age_ms"], "policy_age_ms", problems)
    for name in _TEXTS:
        if item.get(name) is not None:
            event[name] = read_text(item[name], name, MAX_ID_CHARS, problems)
    if item.get("user") is not None and "user_hash" not in event:
        user = read_text(item["user"], "user", MAX_ID_CHARS, problems)
        event["user_hash"] = hash_user(event["project"], user)
    if item.get("control") is not None:
        event["control"] = read_text(item["control"], "control", MAX_ENTRY_CHARS, problems)
    if item.get("encoding") is not None or item.get("features"):
        event["encoding"] = read_text(item.get("encoding"), "encoding", MAX_NAME_CHARS, problems)
        event["features"] = _features(item.get("features"), problems)
    event["propensity"] = _probability(item.get("propensity"), "propensity", problems)
    event["arms"], event["propensities"] = _distribution(item, event["arm"], event["propensity"], problems)
    if problems:
        raise RequestInvalid(problems)
    parts = ["decision", event["project"], event["feature"], event["request_id"], event["policy_version"]]
    event["event_id"] = event_id(*parts, *([event["control"]] if "control" in event else []))
    if item.get("event_id", event["event_id"]) != event["event_id"]:
        raise RequestInvalid([Problem("event_id", f"is not the id of this decision, {event['event_id']}")])
    return event


def _why_not(name: str) -> str:
    if name == "reservations":
        return "only decisions made by the router hold reservations: ask POST /v1/decide under a hard budget"
    return "no such field"


def _distribution(
    item: Mapping[str, Any], arm: str, propensity: float, problems: list[Problem]
) -> tuple[list[str], list[float]]:
    arms, found = item.get("arms"), item.get("propensities")
    if not isinstance(arms, list) or not 0 < len(arms) <= MAX_ARMS:
        problems.append(Problem("arms", f"must be a list of 1 to {MAX_ARMS} names"))
        return [], []
    names = [read_text(name, f"arms[{index}]", MAX_NAME_CHARS, problems) for index, name in enumerate(arms)]
    if not isinstance(found, list) or len(found) != len(arms):
        problems.append(Problem("propensities", "must be a list with one probability for each arm"))
        return names, []
    chances = [_probability(each, f"propensities[{index}]", problems) for index, each in enumerate(found)]
    if len(set(names)) != len(names):
        problems.append(Problem("arms", "must not name an arm twice"))
    elif abs(math.fsum(chances) - 1.0) > TOLERANCE:
        problems.append(Problem("propensities", f"add up to {math.fsum(chances):.6g}, not 1"))
    elif arm not in names:
        problems.append(Problem("arm", "is not one of arms"))
    elif abs(chances[names.index(arm)] - propensity) > TOLERANCE:
        problems.append(Problem("propensity", "is not the propensity of arm"))
    elif propensity == 0:
        problems.append(Problem("propensity", "an arm that was chosen cannot have had no chance"))
    return names, chances


def _features(value: object, problems: list[Problem]) -> list[int]:
    if not isinstance(value, list) or not all(type(each) is int for each in value):
        problems.append(Problem("features", "must be a list of whole numbers"))
        return []
    if (problem := unreadable(value)) is not None:
        problems.append(Problem("features", problem))
    return value


def _whole(value: object, field: str, problems: list[Problem]) -> int:
    if type(value) is int and 0 <= value < 2**63:
        return value
    problems.append(Problem(field, "required" if value is None else "must be a whole number, 0 or more"))
    return 0


def _time(value: object, now_us: int, problems: list[Problem]) -> int:
    at_us = _whole(value, "occurred_at", problems)
    if at_us and not EARLIEST_US <= at_us <= now_us + MOST_FUTURE_US:
        problems.append(Problem("occurred_at", "is not between 2000 and now, in microseconds since the epoch"))
    return at_us


def _number(value: object, field: str, problems: list[Problem]) -> float:
    if isinstance(value, int | float) and type(value) is not bool and 0 <= value <= _LARGEST:
        return float(value)
    problems.append(Problem(field, "must be a finite number, 0 or more"))
    return 0.0


def _probability(value: object, field: str, problems: list[Problem]) -> float:
    if value is None:
        problems.append(Problem(field, "required"))
        return 0.0
    number = _number(value, field, problems)
    if number > 1:
        problems.append(Problem(field, "must be at most 1"))
    return number


def _flag(value: object, field: str, problems: list[Problem]) -> bool:
    if type(value) is bool:
        return value
    problems.append(Problem(field, "must be true or false"))
    return False


def _reason(value: object, problems: list[Problem]) -> str:
    if isinstance(value, str) and value in REASONS:
        return value
    problems.append(Problem("reason", f"must be one of {', '.join(sorted(REASONS))}"))
    return ""


def _text_map(value: object, field: str, problems: list[Problem]) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_ENTRIES:
        problems.append(Problem(field, f"must be an object of at most {MAX_ENTRIES} texts"))
        return {}
    for name, text in value.items():
        if not isinstance(text, str) or len(text) > MAX_ENTRY_CHARS:
            problems.append(Problem(f"{field}.{name[:64]}", f"must be text of at most {MAX_ENTRY_CHARS} characters"))
    return value
