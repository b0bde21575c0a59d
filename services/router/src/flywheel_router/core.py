"""What the router does with a request, without a clock, a socket or a log: decide, once per request and policy
version, within the budgets that hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple

from flywheel.policy import Arm, CompiledPolicy, DecideRequest, Decision, Outlook, decide, decision_event
from flywheel.policy.cascade import Escalation
from flywheel_router.board import PolicyBoard
from flywheel_router.bounded import covered, pays_both
from flywheel_router.recent import Recent
from flywheel_router.spending import Spending

Absence = Literal["no_policy", "unknown_feature"]
Log = Callable[[Mapping[str, Any]], None]
Usable = Callable[[CompiledPolicy], int]
"""The arms of a policy that whoever calls them can call now, a bit each."""


class NothingUsable(Exception):
    """None of the eligible arms can be called now."""


class Option(NamedTuple):
    """An arm that may serve a request, and the cap on its output that is paid for; None: no budget says any."""

    arm: Arm
    cap: int | None


class Sequel(NamedTuple):
    """What may follow a doubted answer: the option, or why there is none. ``unavailable``: the arm may not serve this
    request now; ``unpaid``: what was reserved does not pay it."""

    option: Option | None
    why_not: Literal["unavailable", "unpaid"] | None = None


NO_SEQUEL: Final = Sequel(None, "unavailable")


class Course:
    """The arms of a request in order of preference. All but the first are looked up when first asked for: most requests
    need no other. ``plan``: when the chosen arm's answer is followed by another's, its ``sequel``."""

    def __init__(
        self,
        chosen: Option,
        others: Callable[[], tuple[Option, ...]] = tuple,
        *,
        plan: Escalation | None = None,
        sequel: Callable[[], Sequel] = lambda: NO_SEQUEL,
    ) -> None:
        self.chosen = chosen
        self.plan = plan
        self._others = others
        self._sequel = sequel

    @cached_property
    def options(self) -> tuple[Option, ...]:
        """All of them."""
        return (self.chosen, *self._others())

    @cached_property
    def sequel(self) -> Sequel:
        """What may follow the chosen arm's answer."""
        return self._sequel()


class Decider:
    """Decides with the policies of a board and remembers the last ``remembered`` decisions.

    The same request id under the same policy version and controls gets the same answer: beyond the memory because the
    policy is a pure function of them, within it even where the context differs, and without a second record of it.
    Under a hard budget the arms that can be paid differ from moment to moment, so there it is only the memory that says
    so; what is remembered is not reserved twice.
    """

    def __init__(self, board: PolicyBoard, *, remembered: int, spending: Spending | None = None) -> None:
        self._board = board
        self._spending = spending
        self._made: Recent[tuple[str, str, str, int, str | None], Decision] = Recent(remembered)

    def decide(
        self, request: DecideRequest, now_us: int, log: Log, *, now_s: float = 0.0, usable: Usable | None = None
    ) -> Decision:
        """Decide a request at ``now_us`` (microseconds since the epoch), which only staleness, prices and the record
        depend on, and ``now_s`` (of a clock that only goes forward), which only leases do.

        A new decision is given to ``log`` before it is returned; where that raises, nothing was decided or reserved.
        With ``usable`` the draw is among those of the eligible arms, and the propensities are of that draw.

        Raises:
            Unaffordable: hard budgets leave no arm.
            NothingUsable: ``usable`` leaves none of the eligible arms.
        """
        held = self._board.get(request.project, request.feature)
        compiled = self._board.compiled(held, now_us)
        version, control = (compiled.version, compiled.control) if compiled is not None else (0, None)
        key = (request.project, request.feature, request.request_id, version, control)
        made = self._made.get(key)
        if made is not None:
            return made
        absence: Absence = "unknown_feature" if self._board.serves(request.project) else "no_policy"
        allowed = -1
        outlook = compiled.outlook(request.context, now_us) if compiled is not None else None
        if usable is not None and compiled is not None and outlook is not None:
            allowed = usable(compiled)
            if outlook.arms and not outlook.arms & allowed:
                raise NothingUsable
        spending = self._spending
        if spending is not None and spending.bears_on(request.project, decided_by_policy=held is not None):
            decision = _within(
                spending,
                compiled,
                request,
                log,
                now_us=now_us,
                now_s=now_s,
                absence=absence,
                usable=allowed,
                outlook=outlook,
            )
        else:
            decision = decide(compiled, request, now_us, absence=absence, allowed=allowed, outlook=outlook)
            log(decision_event(decision, request, occurred_at_us=now_us))
        self._made[key] = decision
        return decision

    def course(self, decision: Decision, request: DecideRequest, now_us: int) -> Course:
        """The chosen arm, and those that may serve in its place, likeliest first.

        In its place may serve what the decision was drawn from. Where a hard budget pays, only arms that fall under the
        same budgets and cost no more than was reserved, with the cap on their output that this takes.
        """
        cap = decision.output_tokens_bound
        chosen = Arm(decision.arm, decision.model, decision.prompt_name, decision.prompt_version, decision.params)
        compiled = self._board.compiled(self._board.get(request.project, request.feature), now_us)
        if compiled is None or compiled.version != decision.policy_version:
            return Course(Option(chosen, cap))
        return Course(
            Option(chosen, cap),
            (lambda: self._others(decision, request, compiled, now_us)) if len(decision.arms) > 1 else tuple,
            plan=compiled.plans.get(decision.arm),
            sequel=lambda: self._sequel(decision, request, compiled, now_us),
        )

    def _sequel(self, decision: Decision, request: DecideRequest, compiled: CompiledPolicy, now_us: int) -> Sequel:
        """The arm that the chosen one escalates to: where the policy and the controls let it serve such a request, and
        with the cap on its output that is paid for."""
        to = compiled.plans[decision.arm].to
        place = next(place for place, arm in enumerate(compiled.arms) if arm.name == to)
        if not compiled.eligible(request.context) >> place & 1:
            return NO_SEQUEL
        spending = self._spending
        if spending is None or not spending.bears_on(request.project, decided_by_policy=True):
            return Sequel(Option(compiled.arms[place], None))
        plan = spending.plan(request, compiled, compiled.outlook(request.context, now_us).arms, now_us)
        chosen = next((place for place, arm in enumerate(plan.arms) if arm.name == decision.arm), None)
        cap = decision.output_tokens_bound
        if chosen is None or not pays_both(plan, chosen, decision.reservations, cap):
            return Sequel(None, "unpaid")
        return Sequel(Option(compiled.arms[place], cap))

    def _others(
        self, decision: Decision, request: DecideRequest, compiled: CompiledPolicy, now_us: int
    ) -> tuple[Option, ...]:
        chances = dict(zip(decision.arms, decision.propensities, strict=True))
        caps = self._caps(decision, request, compiled, now_us)
        others = [arm for arm in compiled.arms if arm.name in chances and arm.name in caps]
        others.sort(key=lambda arm: -chances[arm.name])
        return tuple(Option(arm, caps[arm.name]) for arm in others if arm.name != decision.arm)

    def _caps(
        self, decision: Decision, request: DecideRequest, compiled: CompiledPolicy, now_us: int
    ) -> Mapping[str, int | None]:
        """By arm, the cap on its output that is paid for; what cannot be paid is not in it."""
        spending = self._spending
        if spending is None or not spending.bears_on(request.project, decided_by_policy=True):
            return dict.fromkeys(decision.arms)
        plan = spending.plan(request, compiled, compiled.outlook(request.context, now_us).arms, now_us)
        return covered(plan, decision.reservations)


def _within(
    spending: Spending,
    compiled: CompiledPolicy | None,
    request: DecideRequest,
    log: Log,
    *,
    now_us: int,
    now_s: float,
    absence: Absence,
    usable: int,
    outlook: Outlook | None,
) -> Decision:
    """Decide among the arms that budgets leave, reserve the bound of the chosen one, and log."""
    mask = outlook.arms & usable if outlook is not None else 0
    plan = spending.plan(request, compiled, mask, now_us)
    payable = spending.payable(plan, now_s)
    worth = None
    if plan.pressed and compiled is not None and outlook is not None and mask:
        worth = spending.worth(plan, payable, compiled.beliefs(outlook.features, mask))
    decision = decide(compiled, request, now_us, absence=absence, allowed=payable, outlook=outlook)
    if worth is not None:
        free = decision.arm
        decision = decide(
            compiled, request, now_us, absence=absence, allowed=worth.arms, charges=worth.charges, outlook=outlook
        )
        downgraded = None if free == decision.arm else free
        decision = decision._replace(budget_price=worth.price, downgraded_from=downgraded)
    place = next(place for place, arm in enumerate(plan.arms) if arm.name == decision.arm)
    made, tokens = spending.reserve(plan, place, now_s)
    bound = plan.bounds[place]
    if made and bound is not None:
        decision = decision._replace(
            params=spending.capped(decision.params, min(tokens, bound.most_tokens)),
            reservations=made,
            input_tokens_bound=bound.input_tokens,
            output_tokens_bound=tokens,
        )
    try:
        log(decision_event(decision, request, occurred_at_us=now_us))
    except BaseException:
        spending.cancel(made)
        raise
    return decision
