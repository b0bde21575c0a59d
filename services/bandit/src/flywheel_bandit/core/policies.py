"""Stage 2: merges the shards' summaries and publishes policies; the single writer of each feature's policy.

Reads ``arm-summaries`` and ``charters``, both partitioned by ``project/feature``. State tables: ``summaries`` (the
newest of each shard), ``charters`` (revisions per feature), ``published`` (newest version per feature), ``diverging``
(what fires of its proxies and experiment). The state is a function of the facts read, whatever their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from flywheel.policy import build_policy
from flywheel.policy.proxies import LENGTH
from flywheel.stream import Event, FoldResult, Output, Reject, Skip, StateView
from flywheel_bandit.core.alerts import About, Said, tell
from flywheel_bandit.core.charters import (
    History,
    charter_problem,
    decode_rows,
    encode_rows,
    feature_key,
    history,
    row_of,
)
from flywheel_bandit.core.divergence import proxies_firing, proxy_ended
from flywheel_bandit.core.learned import moments_of, pairs_of, summary_of, uses_of
from flywheel_bandit.core.winners import WINNER, winner_firing, winner_revoked

CHARTERS_TOPIC = "charters"
POLICIES_TOPIC = "policies"


class PolicyFold:
    """The fold of stage 2."""

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        """Take a batch of summaries and charters; publish a policy for each feature whose facts grew."""
        verdicts: dict[int, Skip | Reject] = {}
        touched: set[str] = set()
        for index, event in enumerate(events):
            if event.event == "charter":
                verdict = _take_charter(event.value, state)
            elif event.event == "arm_summary":
                verdict = _take_summary(event.value, state)
            else:
                verdict = Skip("not_an_input")
            if verdict is None:
                touched.add(feature_key(event.value["project"], event.value["feature"]))
            else:
                verdicts[index] = verdict
        outputs = [output for key in sorted(touched) for output in _publish(key, state)]
        return FoldResult(outputs, verdicts)


def _take_charter(value: dict[str, Any], state: StateView) -> Skip | Reject | None:
    problem = charter_problem(value)
    if problem is not None:
        return Reject("charter_invalid", *problem)
    key = feature_key(value["project"], value["feature"])
    stored = state.get("charters", key)
    merged = encode_rows([*decode_rows(stored), row_of(value)])
    if merged == stored:
        return Skip("duplicate")
    state.put("charters", key, merged)
    return None


def _take_summary(value: dict[str, Any], state: StateView) -> Skip | Reject | None:
    key = f"{feature_key(value['project'], value['feature'])}/{value['shard']:06d}"
    stored = state.get("summaries", key)
    packed = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    if stored is not None:
        known = orjson.loads(stored)
        if (known["outcomes"], known["charter_revision"]) >= (value["outcomes"], value["charter_revision"]):
            return Skip("older")
    state.put("summaries", key, packed)
    return None


def _publish(key: str, state: StateView) -> list[Output]:
    """Return the policy of a feature where it stands on more than the one published before, and what is to be said
    of its proxies and experiment."""
    known = history(decode_rows(state.get("charters", key)))
    if known is None:
        return []
    newest = known.newest
    found = [orjson.loads(data) for _, data in state.scan("summaries", f"{key}/", f"{key}/~")]
    # Grows with every fact told in any shard and with the charter, so a newer policy always has the larger version.
    version = newest.revision + sum(summary["outcomes"] for summary in found)
    published = state.get("published", key)
    if published is not None and int(published) >= version:
        return []
    state.put("published", key, str(version).encode())
    alike = [s for s in found if (t := known.revision(s["charter_revision"])) and t.reward_key == newest.reward_key]
    digest = next(row[2] for row in decode_rows(state.get("charters", key)) if row[0] == newest.revision)
    policy = build_policy(
        newest.charter,
        charter_revision=newest.revision,
        charter_digest=digest,
        policy_version=version,
        occurred_at_us=max([newest.occurred_at_us, *(summary["occurred_at"] for summary in found)]),
        summaries=[summary_of(summary) for summary in alike],
        moments=[moments_of(summary) for summary in alike if _same_features(summary, known)],
        uses=[uses_of(summary) for summary in alike if _same_measures(summary, known)],
        lengths=[pairs_of(summary, LENGTH, LENGTH) for summary in found],
    )

    def ended(about: About) -> Said:
        return winner_revoked(policy) if about.kind == WINNER else proxy_ended(about)

    firing = proxies_firing(newest, found) | winner_firing(policy)
    return [Output(POLICIES_TOPIC, key, "policy", policy), *tell(key, firing, ended, policy, state)]


def _same_features(summary: dict[str, Any], known: History) -> bool:
    terms = known.revision(summary["charter_revision"])
    return terms is not None and terms.moments_key is not None and terms.moments_key == known.newest.moments_key


def _same_measures(summary: dict[str, Any], known: History) -> bool:
    """Whether the sums of use are those of the newest charter; a summary from before they were kept has none."""
    terms = known.revision(summary["charter_revision"])
    alike = terms is not None and terms.uses_key == known.newest.uses_key
    return alike and tuple(summary.get("measures", ())) == known.newest.measures
