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

    @classmethod
    def decode(cls, data: bytes | None) -> Learned:
        """Return what ``encode`` wrote."""
        if data is None:
            return cls()
        facts, newest_at_us, newest_unit, packed, *more = orjson.loads(data)
        summaries = {key: _summary(newest_unit, rows) for key, rows in packed.items()}
        moments, pairs = (
            {key: _moments(newest_unit, rows) for key, rows in of_kind.items()} for of_kind in (*more, {}, {})[:2]
        )
        return cls(facts, newest_at_us, newest_unit, summaries, moments, pairs)

    def encode(self) -> bytes:
        """Return canonical bytes. Sums are text: they outgrow 64 bits."""
        packed = {key: _packed(self.summaries[key]) for key in sorted(self.summaries) if self.summaries[key].spans}
        more = [_packed_moments(self.moments), _packed_moments(self.pairs)]
        while more and not more[-1]:
            more.pop()
        return orjson.dumps([self.facts, self.newest_at_us, self.newest_unit, packed, *more])

    def replace(self, old: Told | None, story: Story) -> None:
        """Take back what was told of a request before and add what is told now."""
        new = story.told
        if story.newest_unit > self.newest_unit:
            self.newest_unit = story.newest_unit
            for summary in self.summaries.values():
                summary.advance(self.newest_unit)
            for moments in (*self.moments.values(), *self.pairs.values()):
                moments.advance(self.newest_unit)
        if old is not None:
            self.facts -= old.revision
            if old.outcome is not None and old.moments_key in self.moments:
                self.moments[old.moments_key].subtract(old.unit, old.arm, np.array(old.outcome, dtype=np.int64))
            if old.reward_nano is not None and old.reward_key in self.summaries:
                self.summaries[old.reward_key].subtract(old.unit, old.arm, old.reward_nano)
            self._take_back_pairs(old)
        self.facts += new.revision
        self.newest_at_us = max(self.newest_at_us, story.completed_at_us)
        if new.reward_nano is not None:
            if new.reward_key not in self.summaries:
                self.summaries[new.reward_key] = Summary(newest=self.newest_unit)
            self.summaries[new.reward_key].add(new.unit, new.arm, new.reward_nano)
        if new.outcome is not None and new.moments_key is not None:
            if new.moments_key not in self.moments:
                self.moments[new.moments_key] = MomentSummary(newest=self.newest_unit)
            self.moments[new.moments_key].add(new.unit, new.arm, np.array(new.outcome, dtype=np.int64))
        self._add_pairs(new)

    def _take_back_pairs(self, old: Told) -> None:
        for key, vector in old.pairs:
            if key in self.pairs:
                self.pairs[key].subtract(old.unit, old.arm, np.array(vector, dtype=np.int64))

    def _add_pairs(self, new: Told) -> None:
        for key, vector in new.pairs:
            if key not in self.pairs:
                self.pairs[key] = MomentSummary(newest=self.newest_unit)
            self.pairs[key].add(new.unit, new.arm, np.array(vector, dtype=np.int64))

    def forget_others(self, history: History) -> None:
        """Drop the summaries no known charter rewards by."""
        known = {terms.reward_key for terms in history.revisions}
        for key in set(self.summaries) - known:
            del self.summaries[key]
        for key in set(self.moments) - {terms.moments_key for terms in history.revisions if terms.moments_key}:
            del self.moments[key]
        for key in set(self.pairs) - {key for terms in history.revisions for key in terms.pair_keys}:
            del self.pairs[key]

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
        }
        if newest.moments_key is not None:
            value["moments"] = [
                {"bucket": span, "arm": arm, "sums": list(sums)}
                for span, arm, sums in self.moments.get(newest.moments_key, MomentSummary()).rows()
            ]
        if newest.pairs:
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


def _packed_moments(found: dict[str, MomentSummary]) -> dict[str, Any]:
    return {key: list(found[key].rows()) for key in sorted(found) if found[key].spans}


def _packed(summary: Summary) -> list[Any]:
    return [[span, arm, n, str(total), str(sq)] for span, arm, n, total, sq in summary.rows()]


def _summary(newest: int, rows: list[list[Any]]) -> Summary:
    return Summary.from_rows(newest, [(span, arm, n, int(total), int(sq)) for span, arm, n, total, sq in rows])


def _moments(newest: int, rows: list[list[Any]]) -> MomentSummary:
    return MomentSummary.from_rows(newest, [(span, arm, tuple(sums)) for span, arm, sums in rows])
