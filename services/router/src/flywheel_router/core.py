"""What the router does with a request, without a clock, a socket or a log: decide, once per request and policy
version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from flywheel.policy import DecideRequest, Decision, decide, decision_event
from flywheel_router.board import PolicyBoard
from flywheel_router.recent import Recent

Absence = Literal["no_policy", "unknown_feature"]


class Decider:
    """Decides with the policies of a board and remembers the last ``remembered`` decisions.

    The same request id under the same policy version gets the same answer: beyond the memory because the policy is a
    pure function of both, within it even where the context differs, and without a second record of it.
    """

    def __init__(self, board: PolicyBoard, *, remembered: int) -> None:
        self._board = board
        self._made: Recent[tuple[str, str, str, int], Decision] = Recent(remembered)

    def decide(self, request: DecideRequest, now_us: int, log: Callable[[Mapping[str, Any]], None]) -> Decision:
        """Decide a request at ``now_us`` (microseconds since the epoch), which only staleness and the record depend on.

        A new decision is given to ``log`` before it is returned; where that raises, nothing was decided.
        """
        held = self._board.get(request.project, request.feature)
        key = (request.project, request.feature, request.request_id, held.version if held else 0)
        made = self._made.get(key)
        if made is not None:
            return made
        absence: Absence = "unknown_feature" if self._board.serves(request.project) else "no_policy"
        decision = decide(held.compiled if held else None, request, now_us, absence=absence)
        log(decision_event(decision, request, occurred_at_us=now_us))
        self._made[key] = decision
        return decision
