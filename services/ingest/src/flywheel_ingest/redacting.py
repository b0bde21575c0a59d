"""Personal data and secrets taken out of facts before they leave ingest. Pure.

What is looked at is what the events' schemas declare ``pii: redact`` or ``raw``: content, comments, explanations, free
attributes. Fails closed: what cannot be redacted is dropped, and its call is flagged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

import orjson

from flywheel.redaction import KINDS as PII_KINDS
from flywheel.redaction import MIN_KEY_BYTES, Policy, PolicyInvalid, Redactor, parse_policies
from flywheel_ingest.core import Fact
from flywheel_ingest.items import CONTENT_EVENT, KINDS, KindName

Reason = Literal["policy", "too_long", "failed"]
FLAG: Final = "content_dropped"
"""Flag of a call of which something said was dropped: it could not be redacted, or was too long."""
DROPPED: Final = "[DROPPED]"
_MANY_PROJECTS: Final = 1024
_MANY_CLEAN: Final = 20_000
_SHORT: Final = 128
_DECLARED: Final = ("redact", "raw")


class Declared(NamedTuple):
    """The fields of an event that may hold personal data: texts, and maps of texts."""

    texts: tuple[str, ...]
    maps: tuple[str, ...]


@dataclass(slots=True)
class Outcome:
    """Facts as they may be written, how many finds of each kind were taken out, and why something was dropped."""

    facts: list[Fact] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    dropped: Counter[Reason] = field(default_factory=Counter)


def declared(avsc: Mapping[str, Any]) -> Declared:
    """What a schema declares ``redact`` or ``raw``.

    Raises:
        ValueError: a field of a type that cannot be redacted; it would pass unseen.
    """
    texts, maps = [], []
    for each in avsc["fields"]:
        if each.get("pii") not in _DECLARED:
            continue
        branches = each["type"] if isinstance(each["type"], list) else [each["type"]]
        for branch in branches:
            if branch == "string":
                texts.append(each["name"])
            elif isinstance(branch, dict) and (branch["type"], branch.get("values")) == ("map", "string"):
                maps.append(each["name"])
            elif branch != "null":
                raise ValueError(f"{avsc['name']}.{each['name']}: no rule to redact the type {branch!r}")
    return Declared(tuple(texts), tuple(maps))


class Redaction:
    """Redacts facts by their project's policy.

    Args:
        policies: TOML, see ``flywheel.redaction.policy``; empty for the standard policy.
        key: of hashes; needed where a policy hashes.
        schema: an event's Avro schema by name.
        most_bytes: a fact whose texts grow beyond this loses them, since Kafka would not take it.
        closed: why nothing can be redacted at all (a policy that could not be read from its file).
    """

    def __init__(
        self,
        policies: str,
        key: bytes | None,
        schema: Callable[[str], Mapping[str, Any]],
        *,
        most_bytes: int,
        closed: str | None = None,
    ) -> None:
        self._events = {name: declared(schema(kind.event)) for name, kind in KINDS.items()}
        self._content = declared(schema(CONTENT_EVENT))
        self._most_bytes = most_bytes
        try:
            book = parse_policies(policies)
        except PolicyInvalid as error:
            closed = f"the policy cannot be read: {error}"
        hashing = closed is None and any(each.hashes for each in (book.base, *book.projects.values()))
        keyless = hashing and (key is None or len(key) < MIN_KEY_BYTES)
        self.warning = closed or (
            f"a policy hashes and the key has less than {MIN_KEY_BYTES} bytes" if keyless else None
        )
        """Why texts of some or all projects are dropped; for the operator."""

        @lru_cache(maxsize=_MANY_PROJECTS)
        def redactor(project: str) -> tuple[Redactor, str]:
            if closed is not None:
                shut = Redactor(Policy())
                shut.closed = closed
                return shut, "masked"
            policy = book.of(project)
            kept = all(policy.action(kind) == "keep" for kind in PII_KINDS)
            return Redactor(policy, key=key, project=project), "none" if kept else "masked"

        self._redactor = redactor
        # Free attributes say the same few things over and over; what is remembered of them is clean.
        self._clean: set[tuple[str, str, str]] = set()

    def weight(self, name: KindName, facts: Iterable[Fact]) -> int:
        """How many characters are to be looked at."""
        fields = self._events[name]
        return sum(
            _characters(fact.event, fields) + (_characters(fact.content, self._content) if fact.content else 0)
            for fact in facts
        )

    def redact(self, name: KindName, facts: Sequence[Fact]) -> Outcome:
        """The facts as they may be written. Never raises for what a fact says; does not change the facts given."""
        outcome = Outcome()
        for fact in facts:
            redactor, _ = self._redactor(fact.event["project"])
            before = outcome.dropped.total() if outcome.dropped else 0
            event = self._one(fact.event, self._events[name], redactor, outcome)
            content = self._content_of(fact, outcome)
            if name == "call" and outcome.dropped and outcome.dropped.total() > before:
                event = {**event, "flags": list(dict.fromkeys([*event.get("flags", ()), FLAG]))}
            same = event is fact.event and content is None and fact.content is None
            outcome.facts.append(fact if same else fact._replace(event=event, content=content))
        return outcome

    def _content_of(self, fact: Fact, outcome: Outcome) -> dict[str, Any] | None:
        if fact.content is None:
            return None
        redactor, how = self._redactor(fact.event["project"])
        content = dict(self._one(fact.content, self._content, redactor, outcome))
        kept = False
        for name in self._content.texts:
            if content[name] == DROPPED:
                content[name] = None
            kept |= content[name] is not None
        return {**content, "redaction": how} if kept else None

    def _one(self, event: dict[str, Any], fields: Declared, redactor: Redactor, outcome: Outcome) -> dict[str, Any]:
        """The event with its declared fields redacted, itself where nothing changed; a text that had to be dropped is
        ``[DROPPED]``."""
        changed: dict[str, Any] = {}
        for name in fields.texts:
            if event.get(name):
                changed[name] = _text(redactor, event[name], outcome)
        for name in fields.maps:
            if event.get(name):
                changed[name] = self._map(event["project"], event[name], redactor, outcome)
        if not changed or all(changed[name] is event[name] for name in changed):
            return event
        if sum(map(_bytes, changed.values())) > self._most_bytes:
            outcome.dropped["too_long"] += len(changed)
            changed = {name: DROPPED if name in fields.texts else {} for name in changed}
        return {**event, **changed}

    def _map(self, project: str, texts: Mapping[str, str], redactor: Redactor, outcome: Outcome) -> Mapping[str, str]:
        """A map of texts; the key says what a value is, and is redacted itself."""
        if redactor.closed is not None:
            outcome.dropped["policy"] += 1
            return {}
        pairs = [(project, key, value) for key, value in texts.items()]
        if self._clean.issuperset(pairs):
            return texts
        found, dropped = outcome.found.total(), outcome.dropped.total()
        redacted = redactor.value({key: _json(redactor, value, outcome) for key, value in texts.items()})
        outcome.found.update(redacted.counts)
        for _, why in redacted.dropped:
            outcome.dropped[_reason(redactor, why)] += 1
        made: dict[str, str] = redacted.value
        if made == texts and (found, dropped) == (outcome.found.total(), outcome.dropped.total()):
            if len(self._clean) > _MANY_CLEAN:
                self._clean.clear()
            self._clean.update(pair for pair in pairs if sum(map(len, pair)) <= _SHORT)
        return made


def _text(redactor: Redactor, text: str, outcome: Outcome) -> str:
    """A text without its finds. JSON in it is looked at as values too: its escapes would hide what they spell."""
    text = _json(redactor, text, outcome)
    redacted = redactor.text(text)
    if redacted.text is None:
        outcome.dropped[_reason(redactor, redacted.dropped or "")] += 1
        return DROPPED
    outcome.found.update(span.kind for span in redacted.spans)
    return redacted.text


def _json(redactor: Redactor, text: str, outcome: Outcome) -> str:
    if redactor.closed is not None or text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    redacted = redactor.value(parsed)
    outcome.found.update(redacted.counts)
    for _, why in redacted.dropped:
        outcome.dropped[_reason(redactor, why)] += 1
    return orjson.dumps(redacted.value).decode() if redacted.counts or redacted.dropped else text


def _reason(redactor: Redactor, dropped: str) -> Reason:
    if redactor.closed is not None:
        return "policy"
    return "too_long" if dropped.startswith("longer") else "failed"


def _characters(event: Mapping[str, Any], fields: Declared) -> int:
    texts = sum(len(event.get(name) or "") for name in fields.texts)
    maps = (event.get(name) or {} for name in fields.maps)
    return texts + sum(len(key) + len(value) for each in maps for key, value in each.items())


def _bytes(value: str | Mapping[str, str]) -> int:
    if isinstance(value, str):
        return len(value.encode())
    return sum(len(key.encode()) + len(text.encode()) for key, text in value.items())
