"""Whether a charter may go live: where its feature asks for it, only what is proven to earn more than what runs.

What runs are the decisions that were logged under the newest charter, and under those before it as long as they chose
and rewarded alike. The new charter's policy is held against them as ``flywheel whatif`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flywheel.cli.candidates import CandidateInvalid, judged_charter
from flywheel.cli.logged_rows import Left, recorded_rows
from flywheel.cli.periods import FOREVER_US
from flywheel.cli.questions import QueryFailed, Rows
from flywheel.cli.what_if import LEARN_SHARE, LEVEL, MOST_ROWS, NOT_BETTER, Slice, what_if
from flywheel.cli.what_if_report import why_left
from flywheel.policy import Charter, CharterInvalid, parse_charter
from flywheel.stats import better
from flywheel.store import quoted

_MOST_REVISIONS: Final = 200

Ask = Callable[[str], Rows]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``refused``: why it may not go live; None where it may. ``found``: what the log says of it, where it could be
    asked."""

    refused: str | None
    found: Slice | None = None
    left: Left = field(default_factory=Left)


def must_be_better(running: Charter, wanted: Charter, *, asked: bool) -> bool:
    """Whether a charter has to be proven to earn more than the running one: one of the two declares it, or it is
    ``asked``, and arms are chosen otherwise."""
    declared = "better" in (running.policy.go_live, wanted.policy.go_live)
    return (declared or asked) and not _choose_alike(running, wanted)


def judge(running_event: Mapping[str, Any], running: Charter, wanted: Charter, ask: Ask) -> Verdict:
    """Return whether ``wanted`` is proven to earn more than what runs.

    Args:
        running_event: the newest ``charter`` event of the feature.
        ask: answers queries of the recorded facts.
    """
    if not _reward_alike(running, wanted):
        return Verdict("it rewards otherwise than the running charter, so its log cannot tell; change that alone first")
    left = Left()
    try:
        since = _alike_since(running_event, running, ask)
        rows = recorded_rows(
            ask, project=wanted.project, feature=wanted.feature, period=(since, FOREVER_US), most=MOST_ROWS, left=left
        )
        if not rows:
            return Verdict(f"no decision with a reward to judge by{why_left(left)}", left=left)
        candidate, judging = judged_charter(wanted, rows, LEARN_SHARE)
    except (QueryFailed, CandidateInvalid) as error:
        return Verdict(str(error), left=left)
    low, high = running.reward_range
    if not all(low <= row.reward <= high for row in rows):
        return Verdict(f"rewards lie outside of the running charter's {low:g} to {high:g}", left=left)
    (whole,) = what_if(judging, candidate, low=low, high=high, alpha=1.0 - LEVEL)
    refusals = "; ".join(whole.found.refusals)
    return Verdict(refusals or (None if better(whole.found) else NOT_BETTER), whole, left)


def _choose_alike(one: Charter, other: Charter) -> bool:
    def chosen(charter: Charter) -> tuple[Any, ...]:
        policy = charter.policy.model_copy(update={"go_live": "at_once"})
        return policy, charter.policy_arms, charter.default_arm, charter.tune

    return chosen(one) == chosen(other)


def _reward_alike(one: Charter, other: Charter) -> bool:
    def rewarded(charter: Charter) -> tuple[Any, ...]:
        return charter.quality, charter.weights, charter.reference, charter.reward_range, charter.missing

    return rewarded(one) == rewarded(other)


def _alike_since(running_event: Mapping[str, Any], running: Charter, ask: Ask) -> int:
    """Return since when decisions were made and rewarded as they are now, in microseconds."""
    found = ask(
        "SELECT toUnixTimestamp64Micro(occurred_at), charter_yaml FROM v_charters"
        f" WHERE project = {quoted(running.project)} AND feature = {quoted(running.feature)}"
        f" AND revision <= {int(running_event['revision']):d} ORDER BY revision DESC LIMIT {_MOST_REVISIONS:d}"
    )
    since = int(running_event["occurred_at"])
    for at_us, text in found.rows:
        try:
            older = parse_charter(text)
        except CharterInvalid:
            break
        if not (_choose_alike(older, running) and _reward_alike(older, running)):
            break
        since = min(since, int(at_us))
    return since
