"""Does what went in equal what ClickHouse holds? Waits for the last rows, then counts by id."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from flywheel.cli.demo.scoring import Score, Served
from flywheel.cli.questions import Rows
from flywheel.testkit import Balance, Ledger

Ask = Callable[[str], Rows]

EVENT_VIEWS: Final = ("v_decisions", "v_calls", "v_feedback")
OUTCOME_VIEW: Final = "v_outcomes"


@dataclass(frozen=True, slots=True)
class Counts:
    """Events sent, their rows, and requests joined; ``complaints`` says which do not match, empty when all do."""

    events_in: int
    rows: int
    outcomes: int
    complaints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Noticed:
    """An alert as it was told first: at which of the replay's requests, and what the controller would have done."""

    at_request: int
    kind: str
    severity: str
    title: str
    proposed: str


def noticed(ask: Ask, feature: str) -> tuple[Noticed, ...]:
    """The alerts about a feature, in order of time: those that ClickHouse holds by now."""
    rows = ask(
        "SELECT alert_id, kind, severity, title, toUnixTimestamp64Micro(occurred_at) AS at FROM v_alerts "
        f"WHERE scope['feature'] = '{feature}' AND state = 'firing' ORDER BY at, event_id"
    ).dicts()
    steps = ask(
        f"SELECT arrayJoin(cause) AS alert_id, kind, arms FROM v_actions WHERE feature = '{feature}' "
        "AND state = 'proposed' ORDER BY occurred_at, event_id"
    ).dicts()
    proposed = {step["alert_id"]: " ".join([step["kind"], *step["arms"]]) for step in steps}
    calls = ask(
        f"SELECT toUnixTimestamp64Micro(occurred_at) AS at FROM v_decisions WHERE feature = '{feature}' ORDER BY at"
    ).rows
    times = [int(at) for (at,) in calls]
    first = {row["alert_id"]: row for row in reversed(rows)}
    return tuple(
        Noticed(bisect_right(times, int(row["at"])), row["kind"], row["severity"], row["title"], proposed.get(key, ""))
        for key, row in sorted(first.items(), key=lambda pair: (int(pair[1]["at"]), pair[0]))
    )


def wait_for_rows(
    ask: Ask,
    feature: str,
    requests: int,
    *,
    patience_s: float = 30.0,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Wait until every view holds ``requests`` rows of the feature; gives up, with False, after ``patience_s``
    seconds in which no count grew. Never waits for counts to shrink."""
    before: tuple[int, ...] = ()
    grew_at_s = clock()
    while True:
        found = tuple(_count(ask, view, feature) for view in (*EVENT_VIEWS, OUTCOME_VIEW))
        if min(found) >= requests:
            return True
        if found != before:
            before, grew_at_s = found, clock()
        elif clock() - grew_at_s > patience_s:
            return False
        sleep(0.25)


def _count(ask: Ask, view: str, feature: str) -> int:
    return int(ask(f"SELECT count() FROM {view} WHERE {_of(view, feature)}").scalar())


def _of(view: str, feature: str) -> str:
    """The rows of the demo: its feature, and for outcomes only those with every part (a reward)."""
    complete = " AND reward IS NOT NULL" if view == OUTCOME_VIEW else ""
    return f"feature = '{feature}'{complete}"


def count_everything(ask: Ask, feature: str, served: Sequence[Served]) -> Counts:
    """Hold every view against what was sent, id by id."""
    ledger = Ledger()
    request_ids = [s.request_id for s in served]
    for view in (*EVENT_VIEWS, OUTCOME_VIEW):
        ledger.sent(view, request_ids)
        found = ask(f"SELECT request_id FROM {view} WHERE {_of(view, feature)}").rows
        ledger.seen(view, [str(row[0]) for row in found])
    balances = {balance.place: balance for balance in ledger.balances()}
    complaints = [str(balance) for balance in balances.values() if not balance.even]
    duplicates = ask("SELECT count() FROM v_duplicates").scalar()
    if int(duplicates):
        complaints.append(f"v_duplicates: {duplicates} rows were written more than once")
    return Counts(
        events_in=sum(balances[view].sent for view in EVENT_VIEWS),
        rows=sum(balances[view].arrived for view in EVENT_VIEWS),
        outcomes=_joined(balances[OUTCOME_VIEW]),
        complaints=tuple(complaints),
    )


def _joined(balance: Balance) -> int:
    return balance.arrived


def compare_scores(ask: Ask, feature: str, expected: Score, tolerance: float = 1e-6) -> list[str]:
    """Hold the sums that ClickHouse finds in the joined outcomes against those of the replay itself."""
    query = (
        "SELECT avg(quality), toFloat64(sum(cost_usd)), sum(reward) "
        f"FROM {OUTCOME_VIEW} WHERE {_of(OUTCOME_VIEW, feature)}"
    )
    ((accuracy, cost_usd, reward),) = ask(query).rows
    pairs = [
        ("accuracy", accuracy, expected.accuracy),
        ("cost_usd", cost_usd, expected.cost_usd),
        ("reward", reward, expected.reward),
    ]
    return [
        f"{name}: the joined outcomes say {found}, the replay says {wanted}"
        for name, found, wanted in pairs
        if found is None or abs(float(found) - wanted) > tolerance * max(1.0, abs(wanted))
    ]


def questions(feature: str) -> list[tuple[str, str]]:
    """Three questions an analyst would ask first, with their SQL."""
    return [
        (
            "What did each model cost, and was it right?",
            "SELECT model, count() AS requests, round(avg(quality), 3) AS accuracy, "
            "round(toFloat64(sum(cost_usd)), 4) AS cost_usd, round(avg(reward), 3) AS mean_reward\n"
            f"FROM v_outcomes WHERE feature = '{feature}' GROUP BY model ORDER BY model",
        ),
        (
            "How did the share of traffic move as the policy learned?",
            "SELECT intDiv(n, 250) * 250 AS from_decision, arm, count() AS decisions, "
            "round(avg(propensity), 3) AS mean_propensity\n"
            "FROM (SELECT arm, propensity, row_number() OVER (ORDER BY occurred_at, event_id) - 1 AS n\n"
            f"      FROM v_decisions WHERE feature = '{feature}')\n"
            "GROUP BY from_decision, arm ORDER BY from_decision, arm",
        ),
        (
            "What would always using one model have earned? (inverse propensity weighting of the logged decisions)",
            "SELECT arm, round(sum(reward / propensity) / sum(1 / propensity), 3) AS estimated_mean_reward,\n"
            "       count() AS decisions\n"
            f"FROM v_outcomes WHERE feature = '{feature}' AND propensity > 0 GROUP BY arm ORDER BY arm",
        ),
    ]
