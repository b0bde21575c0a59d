"""Which charter a decision falls under: a pure function of the charter events known for its feature.

A decision follows the newest charter applied at or before it, or the earliest known where it came before them all.
History is kept as a set of events by revision (the newest eight), so the order they arrive in does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import orjson

from flywheel.policy import Charter, RewardRule, parse_charter
from flywheel.policy.bounds import measures, priced_bounds
from flywheel.policy.feature_spec import encoder_of
from flywheel.policy.proxies import LENGTH, LENGTHS_KEY, ProxySpec

MAX_REVISION = 1 << 20
KEPT_REVISIONS = 8


def feature_key(project: str, feature: str) -> str:
    """Return the Kafka key of a feature: ``project/feature``."""
    return f"{project}/{feature}"


@dataclass(frozen=True, slots=True)
class Terms:
    """One charter revision, ready to judge outcomes by. ``reward_key`` is the same for charters that reward alike,
    ``moments_key`` for those that also look at the same features, ``slots`` of them (null and 0 without features).
    ``pairs``: scores that stand for others. ``uses_key`` is the same for charters that also measure alike, what they
    measure being ``measures``; ``priced``: some of it has a price, so it is counted before there is a reward."""

    revision: int
    occurred_at_us: int
    charter: Charter
    rule: RewardRule
    reward_key: str
    window_us: int
    arms: frozenset[str]
    moments_key: str | None = None
    slots: int = 0
    pairs: tuple[ProxySpec, ...] = ()
    uses_key: str = ""
    measures: tuple[str, ...] = ()
    priced: bool = False

    @property
    def pair_keys(self) -> dict[str, tuple[str, str]]:
        """The two names of each pair that sums are kept of, by its key: the declared ones, and each score with the
        length of answers; with ``diversity`` also that length alone."""
        declared = {spec.key: (spec.score, spec.stands_for) for spec in self.pairs}
        alone = {LENGTHS_KEY: (LENGTH, LENGTH)} if self.charter.policy.diversity > 0 else {}
        return declared | {f"{spec.score}|{LENGTH}": (spec.score, LENGTH) for spec in self.pairs} | alone


@lru_cache(maxsize=512)
def terms(occurred_at_us: int, revision: int, text: str) -> Terms:
    """Return the terms of a charter's text; raises ``CharterInvalid``."""
    charter = parse_charter(text)
    rule = RewardRule.of(charter)
    reward_key = blake2b(repr(rule).encode(), digest_size=6).hexdigest()
    encoding = charter.policy.encoding
    measured = measures(charter.constraints)
    return Terms(
        revision=revision,
        occurred_at_us=occurred_at_us,
        charter=charter,
        rule=rule,
        reward_key=reward_key,
        window_us=int(charter.attribution_window_s * 1e6),
        arms=frozenset(arm.name for arm in charter.policy_arms),
        moments_key=None if encoding is None else f"{reward_key}/{encoding}",
        slots=0 if encoding is None else len(encoder_of(charter.policy.feature_records).slots),
        pairs=tuple(charter.proxies),
        uses_key=blake2b(repr((rule, measured)).encode(), digest_size=6).hexdigest(),
        measures=measured,
        priced=bool(priced_bounds(charter.constraints)),
    )


@dataclass(frozen=True, slots=True)
class History:
    """The known revisions of one feature's charter, ascending."""

    revisions: tuple[Terms, ...]

    @property
    def newest(self) -> Terms:
        """The revision in force now."""
        return self.revisions[-1]

    def at(self, occurred_at_us: int) -> Terms:
        """Return the terms a decision of that time falls under."""
        for candidate in reversed(self.revisions):
            if candidate.occurred_at_us <= occurred_at_us:
                return candidate
        return self.revisions[0]

    def revision(self, number: int) -> Terms | None:
        """Return the terms of a revision, where still known."""
        return next((known for known in self.revisions if known.revision == number), None)


Row = tuple[int, int, str, str]
"""Revision, occurred_at in microseconds, digest, text."""


def row_of(charter_event: Mapping[str, Any]) -> Row:
    """Return what is kept of a ``charter`` event."""
    return (
        charter_event["revision"],
        charter_event["occurred_at"],
        charter_event["digest"],
        charter_event["charter_yaml"],
    )


def encode_rows(rows: Iterable[Row]) -> bytes:
    """Return the newest revisions as canonical bytes: one row per revision, the largest where two claim it."""
    newest: dict[int, Row] = {}
    for row in rows:
        newest[row[0]] = max(row, newest.get(row[0], row))
    return orjson.dumps([newest[revision] for revision in sorted(newest)[-KEPT_REVISIONS:]])


def decode_rows(data: bytes | None) -> tuple[Row, ...]:
    """Return the rows that ``encode_rows`` wrote."""
    return () if data is None else tuple((r[0], r[1], r[2], r[3]) for r in orjson.loads(data))


def history(rows: Sequence[Row]) -> History | None:
    """Return the history behind the rows, None when there are none."""
    return History(tuple(terms(row[1], row[0], row[3]) for row in rows)) if rows else None


@dataclass(frozen=True, slots=True)
class CharterBook:
    """Charter events by feature key as read so far; immutable, so a fold sees one state of it. ``fingerprint`` tells
    two apart."""

    rows: Mapping[str, tuple[Row, ...]]
    fingerprint: str

    @classmethod
    def of(cls, charter_events: Iterable[Mapping[str, Any]]) -> CharterBook:
        """Return the book of these events; those whose text is no charter must be left out."""
        book = cls({}, "")
        for event in charter_events:
            book = book.with_event(event)
        return book

    def with_event(self, event: Mapping[str, Any]) -> CharterBook:
        """Return the book with one event more."""
        key = feature_key(event["project"], event["feature"])
        known = decode_rows(encode_rows([*self.rows.get(key, ()), row_of(event)]))
        rows = {**self.rows, key: known}
        newest = [[name, rows[name][-1][0], rows[name][-1][2]] for name in sorted(rows)]
        return CharterBook(rows, blake2b(orjson.dumps(newest), digest_size=8).hexdigest())


def charter_problem(event: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return field and reason where a ``charter`` event cannot be followed, None where it can."""
    if not 1 <= event["revision"] <= MAX_REVISION:
        return "revision", f"must lie between 1 and {MAX_REVISION}"
    try:
        charter = terms(event["occurred_at"], event["revision"], event["charter_yaml"]).charter
    except ValueError as error:
        return "charter_yaml", str(error)
    if (charter.project, charter.feature) != (event["project"], event["feature"]):
        return "feature", f"the text declares {charter.project}/{charter.feature}"
    return None
