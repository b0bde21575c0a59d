"""What a shard has learned of a feature: exact summaries, one per way of rewarding (and, with features, per encoding),
and the number of facts behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from flywheel.events import event_id
from flywheel.policy import Summary, span_bounds
from flywheel.policy.moments import MomentSummary
from flywheel.policy.uses import UseSummary
from flywheel_bandit.core.charters import History
from flywheel_bandit.core.join import Story, Told


@dataclass(slots=True)
class Learned:
    """``facts`` only grows: it is the sum of the revisions told. ``newest_at_us``: newest part in any outcome told.

    ``newest_unit``: newest decision among them. It moves even where an outcome has no reward, so that how far the
    summaries are compacted never depends on what was told in between.
    """

    facts: int = 0
    newest_at_us: int = 0
    newest_unit: int = -1
    summaries: dict[str, Summary] = field(default_factory=dict)
    moments: dict[str, MomentSummary] = field(default_factory=dict)
    pairs: dict[str, MomentSummary] = field(default_factory=dict)
    uses: dict[str, UseSummary] = field(default_factory=dict)

    @classmethod
    def decode(cls, data: bytes | None) -> Learned:
        """Return what ``encode`` wrote."""
        if data is None:
            return cls()
        facts, newest_at_us, newest_unit, packed, *more = orjson.loads(data)
        summaries = {key: _summary(newest_unit, rows) for key, rows in packed.items()}
        of_moments, of_pairs, of_uses = (*more, {}, {}, {})[:3]
        moments, pairs = (
            {key: _moments(newest_unit, rows) for key, rows in of_kind.items()} for of_kind in (of_moments, of_pairs)
        )
        uses = {key: _uses(newest_unit, rows) for key, rows in of_uses.items()}
        return cls(facts, newest_at_us, newest_unit, summaries, moments, pairs, uses)

    def encode(self) -> bytes:
        """Return canonical bytes. Sums are text: they outgrow 64 bits."""
        packed = {key: _packed(self.summaries[key]) for key in sorted(self.summaries) if self.summaries[key].spans}
        uses = {key: _packed_uses(self.uses[key]) for key in sorted(self.uses) if self.uses[key].spans}
        more = [_packed_moments(self.moments), _packed_moments(self.pairs), uses]
        while more and not more[-1]:
            more.pop()
        return orjson.dumps([self.facts, self.newest_at_us, self.newest_unit, packed, *more])

    def replace(self, old: Told | None, story: Story) -> None:
        """Take back what was told of a request before and add what is told now."""
        new = story.told
        if story.newest_unit > self.newest_unit:
            self.newest_unit = story.newest_unit
            for of_kind in (self.summaries, self.moments, self.pairs, self.uses):
                for summary in of_kind.values():
                    summary.advance(self.newest_unit)
        if old is not None:
            self.facts -= old.revision
            for sums, _, key, part in self._parts(old):
                if key in sums:
                    sums[key].subtract(old.unit, old.arm, part)
        self.facts += new.revision
        self.newest_at_us = max(self.newest_at_us, story.completed_at_us)
        for sums, empty, key, part in self._parts(new):
            if key not in sums:
                sums[key] = empty(newest=self.newest_unit)
            sums[key].add(new.unit, new.arm, part)

    def _parts(self, told: Told) -> list[tuple[dict[str, Any], type[Any], str, Any]]:
        """What a request contributes: to which sums, what they are when empty, under which key, and what."""
        found: list[tuple[dict[str, Any], type[Any], str, Any]] = []
        if told.reward_nano is not None:
            found.append((self.summaries, Summary, told.reward_key, told.reward_nano))
        if told.outcome is not None and told.moments_key is not None:
            found.append((self.moments, MomentSummary, told.moments_key, np.array(told.outcome, dtype=np.int64)))
        for key, vector in told.pairs:
            found.append((self.pairs, MomentSummary, key, np.array(vector, dtype=np.int64)))
        if told.uses is not None:
            found.append((self.uses, UseSummary, told.uses_key, told.uses))
        return found

    def forget_others(self, history: History) -> None:
        """Drop the summaries no known charter rewards by."""
        known = {terms.reward_key for terms in history.revisions}
        for key in set(self.summaries) - known:
            del self.summaries[key]
        for key in set(self.moments) - {terms.moments_key for terms in history.revisions if terms.moments_key}:
            del self.moments[key]
        for key in set(self.pairs) - {key for terms in history.revisions for key in terms.pair_keys}:
            del self.pairs[key]
        for key in set(self.uses) - {terms.uses_key for terms in history.revisions}:
            del self.uses[key]

    def event(self, project: str, feature: str, shard: int, history: History) -> dict[str, Any]:
        """Return the ``arm_summary`` event: absolute, under the charter in force now."""
        newest = history.newest
        summary = self.summaries.get(newest.reward_key, Summary())
        value = {
            "event_id": event_id("arm_summary", project, feature, shard, newest.revision, self.facts),
            "project": project,
            "feature": feature,
            "shard": shard,
            "occurred_at": max(self.newest_at_us, newest.occurred_at_us),
            "charter_revision": newest.revision,
            "outcomes": self.facts,
            "buckets": [
                {"bucket": span, "arm": arm, "n": n, "sum_nano": str(total), "sumsq_atto": str(squares)}
                for span, arm, n, total, squares in summary.rows()
            ],
            "measures": list(newest.measures),
            "uses": [
                {"bucket": span, "arm": arm, "sums": sums}
                for span, arm, sums in _packed_uses(self.uses.get(newest.uses_key, UseSummary()))
            ],
        }
        if newest.moments_key is not None:
            value["moments"] = [
                {"bucket": span, "arm": arm, "sums": list(sums)}
                for span, arm, sums in self.moments.get(newest.moments_key, MomentSummary()).rows()
            ]
        if newest.pair_keys:
            value["pairs"] = [
                {"score": score, "stands_for": stands_for, "bucket": span, "arm": arm, "sums": list(sums)}
                for key, (score, stands_for) in newest.pair_keys.items()
                for span, arm, sums in self.pairs.get(key, MomentSummary()).rows()
            ]
        return value


def summary_of(arm_summary: dict[str, Any]) -> Summary:
    """Return the summary an ``arm_summary`` event carries."""
    rows = [(b["bucket"], b["arm"], b["n"], int(b["sum_nano"]), int(b["sumsq_atto"])) for b in arm_summary["buckets"]]
    return Summary.from_rows(max((span_bounds(row[0])[0] for row in rows), default=-1), rows)


def moments_of(arm_summary: dict[str, Any]) -> MomentSummary:
    """Return the sums with features an ``arm_summary`` event carries."""
    newest = max((span_bounds(bucket["bucket"])[0] for bucket in arm_summary["buckets"]), default=-1)
    return _moments(newest, [[row["bucket"], row["arm"], row["sums"]] for row in arm_summary.get("moments", ())])


def pairs_of(arm_summary: dict[str, Any], score: str, stands_for: str) -> MomentSummary:
    """Return the sums of a score and what it stands for (or ``LENGTH``) that an ``arm_summary`` event carries."""
    rows = [
        [row["bucket"], row["arm"], row["sums"]]
        for row in arm_summary.get("pairs", ())
        if (row["score"], row["stands_for"]) == (score, stands_for)
    ]
    return _moments(max((span_bounds(row[0])[0] for row in rows), default=-1), rows)


def uses_of(arm_summary: dict[str, Any]) -> UseSummary:
    """Return the sums of what requests used that an ``arm_summary`` event carries."""
    rows = [[row["bucket"], row["arm"], row["sums"]] for row in arm_summary.get("uses", ())]
    spans = [row[0] for row in rows] + [bucket["bucket"] for bucket in arm_summary["buckets"]]
    return _uses(max((span_bounds(span)[0] for span in spans), default=-1), rows)


def _packed_moments(found: dict[str, MomentSummary]) -> dict[str, Any]:
    return {key: list(found[key].rows()) for key in sorted(found) if found[key].spans}


def _packed(summary: Summary) -> list[Any]:
    return [[span, arm, n, str(total), str(sq)] for span, arm, n, total, sq in summary.rows()]


def _packed_uses(found: UseSummary) -> list[Any]:
    return [[span, arm, [str(each) for each in sums]] for span, arm, sums in found.rows()]


def _uses(newest: int, rows: list[list[Any]]) -> UseSummary:
    return UseSummary.from_rows(newest, [(span, arm, list(map(int, sums))) for span, arm, sums in rows])


def _summary(newest: int, rows: list[list[Any]]) -> Summary:
    return Summary.from_rows(newest, [(span, arm, n, int(total), int(sq)) for span, arm, n, total, sq in rows])


def _moments(newest: int, rows: list[list[Any]]) -> MomentSummary:
    return MomentSummary.from_rows(newest, [(span, arm, tuple(sums)) for span, arm, sums in rows])
