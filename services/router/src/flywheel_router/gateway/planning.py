"""What to do after an attempt failed: try the arm again, take the next one, or stop. Pure.

An attempt is only followed by another where that can do no harm: nothing of the answer has reached the caller, and
where a hard budget pays, only if the attempt is known to have cost nothing (its reservation pays one call). A retry
waits for a time drawn uniformly below an exponentially growing bound (full jitter; Brooker, "Exponential Backoff And
Jitter", 2015), and for what the provider asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Ending = Literal[
    "ok",
    "connect",
    "rate_limited",
    "server_error",
    "timeout",
    "broken",
    "refused",
    "invalid",
    "unavailable",
    "cancelled",
]
"""``connect``: never reached it; ``broken``: the connection was lost under way; ``refused``: the provider does not take
our key or has no such model; ``invalid``: the caller's request is wrong; ``unavailable``: the circuit is open."""

_AGAIN: Final = frozenset({"connect", "rate_limited", "server_error"})
"""Endings after which the same arm may be asked again."""
_NEXT: Final = _AGAIN | {"timeout", "broken", "refused", "unavailable"}
"""Endings after which another arm may be asked."""
FREE: Final = frozenset({"connect", "rate_limited", "server_error", "refused", "invalid", "unavailable"})
"""Endings that cost nothing: the provider never began to answer."""


@dataclass(frozen=True, slots=True)
class RetryRules:
    """How often and how patiently. Times in seconds."""

    most_attempts: int = 4
    tries_per_arm: int = 2
    base_s: float = 0.05
    most_wait_s: float = 2.0


class Tried(NamedTuple):
    """One attempt that ended: at which arm of the course, how, and for how long the provider asked to be left alone."""

    arm: int
    ending: Ending
    retry_after_s: float = 0.0


class Go(NamedTuple):
    """Make another attempt, at that arm of the course, after a wait."""

    arm: int
    wait_s: float


def next_attempt(
    rules: RetryRules,
    tried: Sequence[Tried],
    admitted: Sequence[bool],
    *,
    reserved: bool,
    left_s: float,
    uniform: float,
) -> Go | None:
    """The attempt that follows those ``tried``, or None to stop.

    Args:
        admitted: for each arm of the course, in order of preference, whether it may be tried now.
        reserved: a hard budget pays for one call.
        left_s: seconds until the deadline.
        uniform: a number in [0, 1) that draws the wait.
    """
    last = tried[-1]
    if len(tried) >= rules.most_attempts or left_s <= 0 or last.ending not in _NEXT:
        return None
    if reserved and last.ending not in FREE:
        return None
    tries = [sum(each.arm == arm for each in tried) for arm in range(len(admitted))]
    if last.ending in _AGAIN and admitted[last.arm] and tries[last.arm] < rules.tries_per_arm:
        bound_s = min(rules.most_wait_s, rules.base_s * 2.0 ** (tries[last.arm] - 1))
        wait_s = max(uniform * bound_s, last.retry_after_s)
        if wait_s < left_s and wait_s <= rules.most_wait_s:  # whoever asks for longer is not waited for
            return Go(last.arm, wait_s)
    fresh = next((arm for arm, ok in enumerate(admitted) if ok and not tries[arm]), None)
    return None if fresh is None else Go(fresh, 0.0)


def outcome_of(ending: Ending) -> Literal["ok", "error", "timeout", "neutral"]:
    """What an ending says of the arm's health."""
    if ending in ("ok", "invalid"):
        return "ok"
    if ending == "timeout":
        return "timeout"
    return "neutral" if ending in ("cancelled", "unavailable") else "error"


def ending_of_status(status: int) -> Ending:
    """What an HTTP status that is no success means."""
    if status < 400 or status in (401, 402, 403, 404):  # where it would redirect to is not in the providers' file
        return "refused"
    if status == 429:
        return "rate_limited"
    if status in (408, 409) or status >= 500:
        return "server_error"
    return "invalid"
