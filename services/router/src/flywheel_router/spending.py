"""What budgets say about a decision: which arms can be paid, which are worth it, and what is reserved for the one that
is chosen. Without a clock, a socket or a file: told of budgets, leases and the time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from flywheel.budget.bounds import CAP_PARAMS, Bounds, CallBound, CallSize, Limits, arm_cap, tightest
from flywheel.budget.declared import Budget
from flywheel.budget.leases import Reservation
from flywheel.budget.money import PICO_PER_USD, to_usd
from flywheel.budget.purse import Purse
from flywheel.budget.scopes import Matcher, dimensions_of_decision
from flywheel.policy import Arm, Belief, Charged, CompiledPolicy, DecideRequest, default_arm, worth_it
from flywheel_router.bounded import Look, Plan, Site, plan_of
from flywheel_router.recent import Recent

_DAY_US: Final = 86_400_000_000
_FOREVER_US: Final = 1 << 62
_PLANS_KEPT: Final = 4096
Why = Literal["budget_wait", "budget_exhausted", "budget_unpriced"]


class Unaffordable(Exception):
    """No arm can be paid now, so nothing was decided.

    ``budget_wait``: money may come, a lease in a moment or what others give back; ``budget_exhausted``: not before
    ``window_end_us`` (microseconds since the epoch); ``budget_unpriced``: a hard budget holds and no arm has a price.
    """

    def __init__(self, why: Why, detail: str, *, budget: str | None = None, window_end_us: int | None = None) -> None:
        super().__init__(detail)
        self.why, self.budget, self.window_end_us = why, budget, window_end_us
        self.retry_after_s = 1.0


class Worth(NamedTuple):
    """The arms that may be worth their money, a bit each; what each of them is charged, in reward; the highest price of
    money that holds, in reward a dollar."""

    arms: int
    charges: tuple[float, ...]
    price: float


class Spending:
    """The budgets a router knows and the purse it holds.

    ``keep`` writes down what an account has reserved, where a crash cannot reach it.
    """

    def __init__(self, purse: Purse, keep: Callable[[str, int], None], *, guarded: bool = False) -> None:
        """``guarded``: hard budgets were known before this start, so nothing is decided until they are read again."""
        self.purse = purse
        self._keep = keep
        self._guarded = guarded
        self._read = False
        self._bounds: Bounds | None = None
        self._matcher = Matcher(())
        self._held: dict[str, Budget] = {}
        self._prices: dict[str, float] = {}
        self._bearing: frozenset[str] = frozenset()
        self._plans: Recent[tuple[Any, ...], Plan] = Recent(_PLANS_KEPT)
        self._looks: Recent[tuple[Any, ...], Look] = Recent(_PLANS_KEPT)
        self._plans_until_us = 0
        self._capped: Recent[tuple[int, int], tuple[Mapping[str, str], Mapping[str, str]]] = Recent(_PLANS_KEPT)

    # -- what it is told ----------------------------------------------------------------------------------------------

    def update(self, key: str, event: Mapping[str, Any] | None) -> bool:
        """Take a budget as it was published, or its removal; say whether that changed anything.

        Raises:
            BudgetInvalid: it makes no sense; what was held stays.
        """
        known = self._held.get(key)
        if event is None:
            if known is None:
                return False
            del self._held[key]
        else:
            budget = Budget.from_event(event)
            if known is not None and budget.revision <= known.revision:
                return False
            self._held[key] = budget
        bearing = [each for each in self._held.values() if not each.ended and each.mode != "soft"]
        self._matcher = Matcher(bearing)
        self._bearing = frozenset(each.project for each in bearing)
        self._plans_until_us = 0
        return True

    def state(self, instance: str, event: Mapping[str, Any] | None) -> None:
        """Take what the guard says of an instance: of concern here is the price of money."""
        price = 0.0 if event is None or event["ended"] else float(event["price_of_money"])
        if price > 0:
            self._prices[instance] = price
        else:
            self._prices.pop(instance, None)

    def opened(self) -> None:
        """Every budget was read once."""
        self._read, self._guarded = True, False

    def priced_by(self, bounds: Bounds) -> None:
        """Prices are there."""
        self._bounds = bounds
        self._plans_until_us = 0

    @property
    def hard(self) -> bool:
        """Whether any hard budget is known."""
        return any(budget.hard for budget in self._held.values())

    def __len__(self) -> int:
        return len(self._held)

    # -- one decision -------------------------------------------------------------------------------------------------

    def bears_on(self, project: str, *, decided_by_policy: bool) -> bool:
        """Whether a request of the project must be weighed.

        Raises:
            Unaffordable: nobody knows yet, as the budgets were not read, and either a policy or an earlier life says
                that this is not merely a default while Kafka is away.
        """
        if not self._read and (self._guarded or decided_by_policy):
            raise Unaffordable("budget_wait", "the budgets have not been read yet")
        return project in self._bearing

    def plan(self, request: DecideRequest, compiled: CompiledPolicy | None, mask: int, now_us: int) -> Plan:
        """The arms of ``mask``, or without any the default arm, and what each can cost."""
        if now_us >= self._plans_until_us:
            self._forget(now_us)
        looks = (
            compiled.version if compiled is not None else 0, mask, request.project, request.feature, request.app,
            request.team, request.environment, request.user_hash,
            None if compiled is not None else (request.default_arm, request.default_model),
        )  # fmt: skip
        key = (looks, request.input_tokens, request.input_bytes, request.max_tokens)
        plan = self._plans.get(key)
        if plan is None:
            look = self._looks.get(looks)
            if look is None:
                look = self._looks[looks] = self._look(request, compiled, mask, now_us)
            plan = self._plans[key] = plan_of(
                look, CallSize(request.input_tokens, request.input_bytes, request.max_tokens)
            )
        return plan

    def payable(self, plan: Plan, now_s: float) -> int:
        """The arms that can be paid, a bit each. What the others need is asked for.

        Raises:
            Unaffordable: there are none.
        """
        if plan.hard == ():
            return plan.all_bits
        if plan.hard and plan.enough_pico is not None and self.purse.room_pico(plan.hard, now_s) >= plan.enough_pico:
            return plan.all_bits
        short: list[tuple[Site, CallBound]] = []
        payable = 0
        for bit, site, bound in zip(plan.bits, plan.sites, plan.bounds, strict=True):
            if not site.hard:
                payable |= bit
            elif bound is not None:
                if self.purse.room_pico(site.hard, now_s) >= bound.least_pico:
                    payable |= bit
                else:
                    short.append((site, bound))
        for site, bound in short:
            most = bound.pico(bound.most_tokens)
            if payable:
                self.purse.wish(site.hard, most, now_s)
            else:
                self.purse.want(site.hard, bound.least_pico, now_s, most_pico=most)
        if not payable:
            raise self._unaffordable(plan, now_s)
        return payable

    def worth(self, plan: Plan, payable: int, rewards: Sequence[Belief]) -> Worth | None:
        """What the price of money leaves of the payable arms; None: no budget asks. ``rewards``: what each arm of the
        plan is believed to earn.

        An arm whose cost nobody knows is charged as the cheapest: its calls cost the budget nothing that is known.
        """
        prices = [max((self._prices.get(each, 0.0) for each in site.downgrade), default=0.0) for site in plan.sites]
        highest = max(prices, default=0.0)
        if highest <= 0.0:
            return None
        known = [
            None if bound is None else price * (bound.pico(bound.most_tokens) / PICO_PER_USD)
            for bound, price in zip(plan.bounds, prices, strict=True)
        ]
        least = min((charge for charge in known if charge is not None), default=0.0)
        arms = [
            Charged(bit, reward, least if charge is None else charge)
            for bit, reward, charge in zip(plan.bits, rewards, known, strict=True)
            if bit & payable
        ]
        allowed = worth_it(arms)
        return Worth(allowed, tuple(arm.charge for arm in arms if arm.bit & allowed), highest)

    def reserve(self, plan: Plan, place: int, now_s: float) -> tuple[tuple[Reservation, ...], int]:
        """Take the arm at ``place``, which can be paid: the reservations, written down when this returns, and the cap
        on its output, which where money is short leaves some for other calls. What it may escalate to is paid, too,
        where there is room for both at once; else it will not escalate."""
        site, bound, both = plan.sites[place], plan.bounds[place], plan.both[place]
        if not site.hard or bound is None:
            return (), 0
        if both is not None:
            if self.purse.room_pico(site.hard, now_s) >= both.least_pico:
                bound = both
            else:
                self.purse.wish(site.hard, both.pico(both.most_tokens), now_s)
        tokens = max(bound.least_tokens, bound.tokens_for(self.purse.fair_pico(site.hard, now_s)))
        made = self.purse.reserve(site.hard, bound.pico(tokens), now_s)
        if made is None:
            raise RuntimeError("an arm that could be paid was not")
        try:
            for each in made:
                self._keep(each.account, each.cumulative_pico)
        except BaseException:
            self.cancel(made)
            raise
        return made, tokens

    def cancel(self, made: Iterable[Reservation]) -> None:
        """Take the last reservations back: the decision could not be logged, so it was not made."""
        made = tuple(made)
        self.purse.cancel(made)
        for each in made:
            self._keep(each.account, each.cumulative_pico - each.bound_pico)

    def capped(self, params: Mapping[str, str], tokens: int) -> Mapping[str, str]:
        """An arm's parameters with the cap on its output, under the arm's own name of it."""
        kept = self._capped.get((id(params), tokens))
        if kept is not None and kept[0] is params:
            return kept[1]
        names = [name for name in CAP_PARAMS if name in params] or CAP_PARAMS[:1]
        capped = {**params, **dict.fromkeys(names, str(tokens))}
        self._capped[id(params), tokens] = (params, capped)
        return capped

    # -- inside -------------------------------------------------------------------------------------------------------

    def _forget(self, now_us: int) -> None:
        self._plans, self._looks = Recent(_PLANS_KEPT), Recent(_PLANS_KEPT)
        later = (each.effective_from_us for each in self._held.values() if each.effective_from_us > now_us)
        self._plans_until_us = min((now_us // _DAY_US + 1) * _DAY_US, *later, _FOREVER_US)

    def _look(self, request: DecideRequest, compiled: CompiledPolicy | None, mask: int, now_us: int) -> Look:
        if compiled is not None and mask:
            places = [index for index in range(len(compiled.arms)) if mask >> index & 1]
            arms, bits = tuple(compiled.arms[index] for index in places), tuple(1 << index for index in places)
        else:
            arms, bits = (default_arm(compiled, request),), (1,)
        sites = tuple(self._site(request, arm, now_us) for arm in arms)
        alike = all(site.hard == sites[0].hard for site in sites)
        pressed = any(site.downgrade for site in sites)
        names = {arm.name: place for place, arm in enumerate(arms)}
        plans = compiled.plans if compiled is not None else {}
        targets = tuple(names.get(plans[arm.name].to) if arm.name in plans else None for arm in arms)
        return Look(arms, bits, sites, targets, sites[0].hard if alike else None, pressed)

    def _site(self, request: DecideRequest, arm: Arm, now_us: int) -> Site:
        dimensions = dimensions_of_decision({
            "app": request.app, "feature": request.feature, "team": request.team, "user_hash": request.user_hash,
            "environment": request.environment, "prompt_name": arm.prompt_name, "prompt_version": arm.prompt_version,
            "model": arm.model,
        })  # fmt: skip
        found = self._matcher.instances(request.project, dimensions, now_us)
        hard = [each for each in found if each.budget.hard]
        limits = tightest(
            Limits(each.budget.max_input_tokens, each.budget.max_output_tokens, each.budget.min_output_tokens)
            for each in hard
        )
        return Site(
            hard=tuple(each.key for each in hard),
            limits=limits,
            downgrade=tuple(each.key for each in found if each.budget.mode == "downgrade"),
            cap=arm_cap(arm.params),
            rates=self._bounds.rates(arm.model, arm.params, now_us) if self._bounds is not None else None,
        )

    def _unaffordable(self, plan: Plan, now_s: float) -> Unaffordable:
        if self._bounds is None:
            return Unaffordable("budget_wait", "the prices are being loaded")
        bounded = [(bound, site) for bound, site in zip(plan.bounds, plan.sites, strict=True) if bound is not None]
        if not bounded:
            budget = next((site.hard[0] for site in plan.sites if site.hard), None)
            detail = "no arm has a price, so what it may cost has no bound"
            return Unaffordable("budget_unpriced", detail, budget=budget)
        bound, site = min(bounded, key=lambda pair: pair[0].least_pico)
        need = bound.least_pico
        lacking = self.purse.lacking(site.hard, need, now_s)
        asked = f"{to_usd(need).normalize():f} USD, the bound of the cheapest arm with {bound.input_tokens} "
        asked += f"input and {bound.least_tokens} output tokens"
        for instance in lacking:
            standing = self.purse.standing(instance, now_s)
            if standing.exhausted:
                detail = f"budget {instance} has no room for {asked}"
                return Unaffordable("budget_exhausted", detail, budget=instance, window_end_us=standing.window_end_us)
        detail = f"waiting for a lease of budget {lacking[0]} for {asked}"
        return Unaffordable("budget_wait", detail, budget=lacking[0])
