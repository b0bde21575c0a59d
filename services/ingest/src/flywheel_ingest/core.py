"""Items to facts: validated, normalised, priced; or a verdict that names the field. Pure: the clock is an argument."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from operator import itemgetter
from typing import Any, Final, NamedTuple

import orjson
from pydantic_core import ValidationError

from flywheel.events import event_id
from flywheel.pricing import PriceBook
from flywheel_ingest.costs import CostInvalid, put_cost
from flywheel_ingest.items import KINDS, FieldError, ItemRules, Kind, KindName, Limits
from flywheel_ingest.values import ValueInvalid, check_time, microseconds, usd
from flywheel_ingest.window import RecentIds

DIGEST_BYTES: Final = 16
MAX_SUGGESTING: Final = 20
"""So many items of a batch are told what an unknown field was probably meant to be; it is the dearest thing to say."""
_SORTED: Final = orjson.OPT_SORT_KEYS
# At least one of these must say something, else the item states nothing.
_SAYS: Final[Mapping[KindName, tuple[str, ...]]] = {
    "call": (),
    "feedback": ("value", "label", "comment"),
    "evaluation": ("score", "label", "passed"),
}


class Fact(NamedTuple):
    """An item that may be published: its event, its content where it carried any, and a digest of what was posted."""

    position: int
    event_id: str
    digest: bytes
    event: dict[str, Any]
    content: dict[str, Any] | None


class Refusal(NamedTuple):
    """An item that may not, and why."""

    position: int
    event_id: str | None
    errors: tuple[FieldError, ...]


class Admission(NamedTuple):
    """A batch divided: every item is in exactly one of the three."""

    facts: list[Fact]
    duplicates: list[Fact]
    refusals: list[Refusal]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands in a batch for an item whose JSON cannot be read."""

    errors: tuple[FieldError, ...]


class _Refused(Exception):
    def __init__(self, *errors: FieldError) -> None:
        super().__init__()
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Core:
    """What admission needs besides the items: rules by kind, limits, prices, and the keyed hash of users.

    ``digest_key``: the digest of an item, of which ids are made, is keyed, else whoever reads a topic could try which
    user or which redacted number makes the id that stands there.
    """

    rules: Mapping[KindName, ItemRules]
    limits: Limits
    prices: PriceBook
    hash_user: Callable[[str, str], str]
    digest_key: bytes = b""

    def admit(self, kind: KindName, items: Sequence[object], now_us: int) -> Admission:
        """Divide the items of a batch into facts and refusals. ``now_us``: our clock, microseconds since the epoch."""
        rules = self.rules[kind]
        facts: list[Fact] = []
        refusals: list[Refusal] = []
        for index, item in enumerate(items):
            try:
                facts.append(self._admit_one(rules, index, item, now_us))
            except ValidationError as error:
                told = rules.explain(error, suggesting=len(refusals) < MAX_SUGGESTING)
                refusals.append(Refusal(index, _own_id(item), _located(told, index)))
            except _Refused as refused:
                refusals.append(Refusal(index, _own_id(item), _located(refused.errors, index)))
        return Admission(facts, [], refusals)

    def _admit_one(self, rules: ItemRules, index: int, item: object, now_us: int) -> Fact:
        if type(item) is Unreadable:
            raise _Refused(*item.errors)
        crowded = rules.crowded(item)
        if crowded is not None:
            raise _Refused(crowded)
        event = rules.validate(item)
        if None in event.values():  # null is the same as leaving a field out
            event = {name: value for name, value in event.items() if value is not None}
        try:
            raw = orjson.dumps(event, option=_SORTED)
        except TypeError:  # only a raw usage object is free enough for that
            raise _Refused(FieldError("usage", "is nested too deeply, or has an integer beyond 64 bits")) from None
        if len(raw) > self.limits.max_item_bytes:
            raise _Refused(FieldError("", f"is {len(raw)} bytes as JSON, at most {self.limits.max_item_bytes}"))
        digest = blake2b(raw, digest_size=DIGEST_BYTES, key=self.digest_key).digest()
        self._normalise(rules, event, now_us)
        own_id = event.get("event_id")
        if own_id is None:
            own_id = event["event_id"] = event_id(rules.kind.name, digest.hex())
        content = None
        if rules.kind.name == "call":
            content = _content(event)
            try:
                put_cost(event, self.prices)
            except CostInvalid as invalid:
                raise _Refused(invalid.error) from None
        return Fact(index, own_id, digest, event, content)

    def _normalise(self, rules: ItemRules, event: dict[str, Any], now_us: int) -> None:
        try:
            at_us = event["occurred_at"] = microseconds(event.get("occurred_at"))
            check_time(at_us, now_us=now_us, max_future_us=self.limits.max_future_us)
        except ValueInvalid as error:
            raise _Refused(FieldError("occurred_at", str(error))) from None
        event.setdefault("project", "default")
        for name in rules.enums:
            symbol = event.get(name)
            if symbol is not None:
                event[name] = symbol.upper()
        if "user" in event:
            self._hash(event)
        says = _SAYS[rules.kind.name]
        if says:
            if event.keys().isdisjoint(says):
                raise _Refused(FieldError(says[0], f"is required where none of {', '.join(says[1:])} is given"))
            if "judge_cost_usd" in event:
                event["judge_cost_usd"] = _money(event, "judge_cost_usd")
            if event.get("golden_score") is not None and not event.get("feature"):
                raise _Refused(FieldError("feature", "is required beside golden_score: whose evaluator is probed"))
        if rules.kind.name != "evaluation":
            event["received_at"] = now_us

    def _hash(self, event: dict[str, Any]) -> None:
        if "user_hash" in event:
            raise _Refused(FieldError("user", "is not given beside user_hash"))
        event["user_hash"] = self.hash_user(event["project"], event.pop("user"))


def screen(admission: Admission, kind: Kind, recent: RecentIds) -> Admission:
    """Take out of the facts what was posted before: the same content is a duplicate, another is refused.

    Looks at the other items of the batch and at the recent ids; remembers the facts that are left as under way.
    """
    facts: list[Fact] = []
    duplicates = list(admission.duplicates)
    refusals = list(admission.refusals)
    in_batch: dict[str, bytes] = {}
    for fact in admission.facts:
        known, acknowledged = recent.find(kind.name, fact.event_id)
        earlier = in_batch.get(fact.event_id)
        if fact.digest == earlier or (acknowledged and fact.digest == known):
            duplicates.append(fact)
        elif earlier is not None or (known is not None and fact.digest != known):
            refusals.append(
                Refusal(fact.position, fact.event_id, (FieldError("event_id", "already used with other content"),))
            )
        else:
            in_batch[fact.event_id] = fact.digest
            recent.claim(kind.name, fact.event_id, fact.digest)
            facts.append(fact)
    return Admission(facts, duplicates, refusals)


def report(admission: Admission) -> dict[str, Any]:
    """The answer to a batch: counts that add up to its items, and a verdict for each, in order."""
    verdicts = [
        *(_taken(fact, "accepted") for fact in admission.facts),
        *(_taken(fact, "duplicate") for fact in admission.duplicates),
        *(_refused(refusal) for refusal in admission.refusals),
    ]
    if admission.duplicates or admission.refusals:
        verdicts.sort(key=itemgetter("index"))
    return {
        "accepted": len(admission.facts),
        "duplicate": len(admission.duplicates),
        "rejected": len(admission.refusals),
        "items": verdicts,
    }


def status_of(admission: Admission) -> int:
    """The HTTP status of a batch: 200 all well, 422 nothing was, 207 some of each."""
    if not admission.refusals:
        return 200
    return 207 if admission.facts or admission.duplicates else 422


def _taken(fact: Fact, status: str) -> dict[str, Any]:
    return {"index": fact.position, "event_id": fact.event_id, "status": status}


def _refused(refusal: Refusal) -> dict[str, Any]:
    return {
        "index": refusal.position,
        "event_id": refusal.event_id,
        "status": "rejected",
        "errors": [{"field": error.field, "message": error.message} for error in refusal.errors],
    }


def _content(event: dict[str, Any]) -> dict[str, Any] | None:
    input_text, output_text = event.pop("input_text", None), event.pop("output_text", None)
    if input_text is None and output_text is None:
        return None
    return {
        "event_id": event_id("content", event["event_id"]),
        "project": event["project"],
        "request_id": event["request_id"],
        "occurred_at": event["occurred_at"],
        "call_id": event["event_id"],
        "feature": event.get("feature"),
        "input_text": input_text,
        "output_text": output_text,
    }


def _money(event: Mapping[str, Any], name: str) -> Any:
    try:
        return usd(event[name])
    except ValueInvalid as error:
        raise _Refused(FieldError(name, str(error))) from None


def _located(errors: tuple[FieldError, ...], index: int) -> tuple[FieldError, ...]:
    """Errors of the item as a whole name its place in the batch."""
    return tuple(error if error.field else FieldError(f"items[{index}]", error.message) for error in errors)


def _own_id(item: object) -> str | None:
    found = item.get("event_id") if isinstance(item, dict) else None
    return found if isinstance(found, str) and len(found) <= 128 else None


def kind_of(name: KindName) -> Kind:
    """The kind of that name."""
    return KINDS[name]
