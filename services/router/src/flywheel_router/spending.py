"""What budgets say about a decision: which arms can be paid, which are worth it, and what is reserved for the one that
is chosen. Without a clock, a socket or a file: told of budgets, leases and the time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from flywheel.budget.bounds import (
    CAP_PARAMS,
    BoundRates,
    Bounds,
    CallBound,
    CallSize,
    Limits,
    arm_cap,
    bound_of,
    tightest,
)
from flywheel.budget.declared import Budget
from flywheel.budget.money import PICO_PER_USD, to_usd
from flywheel.budget.purse import Purse, Reservation
from flywheel.budget.scopes import Matcher, dimensions_of_decision
from flywheel.policy import Arm, DecideRequest, Priced, worth_it
from flywheel_router.recent import Recent

_DAY_US: Final = 86_400_000_000
_FOREVER_US: Final = 1 << 62
_SITES_KEPT: Final = 4096
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


@dataclass(frozen=True, slots=True)
class Site:
    """What budgets say about one arm for requests that look alike."""

    hard: tuple[str, ...]
    limits: Limits
    downgrade: tuple[str, ...]
    cap: int | None
    rates: BoundRates | None


class Offer(NamedTuple):
    """One arm for one request: what it can cost, and the largest output it can be paid for."""

    bit: int
    site: Site
    bound: CallBound | None
    tokens: int

    @property
    def payable(self) -> bool:
        """Whether it can be chosen."""
        return not self.site.hard or (self.bound is not None and self.tokens >= self.bound.least_tokens)


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
        self._sites: Recent[tuple[Any, ...], tuple[Site, ...]] = Recent(_SITES_KEPT)
        self._sites_until_us = 0
        self._capped: Recent[tuple[int, int], tuple[Mapping[str, str], Mapping[str, str]]] = Recent(_SITES_KEPT)

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
        self._sites_until_us = 0
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
        self._sites_until_us = 0

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

    def offers(
        self, request: DecideRequest, arms: Sequence[tuple[int, Arm]], version: int, now_us: int, now_s: float
    ) -> list[Offer]:
        """What each of ``arms`` (with its bit) can cost and whether that can be paid."""
        sites = self._sites_of(request, arms, version, now_us)
        size = CallSize(request.input_tokens, request.input_bytes, request.max_tokens)
        rooms: dict[tuple[str, ...], int] = {}
        found = []
        for (bit, _), site in zip(arms, sites, strict=True):
            bound = None if site.rates is None else bound_of(site.rates, size, site.limits, site.cap)
            tokens = -1
            if bound is not None and site.hard:
                room = rooms.get(site.hard)
                if room is None:
                    room = rooms[site.hard] = self.purse.room_pico(site.hard, now_s)
                tokens = bound.tokens_for(room)
            found.append(Offer(bit, site, bound, tokens))
        return found

    def payable(self, offers: Sequence[Offer], now_s: float) -> int:
        """The arms that can be paid, a bit each. What the others need is asked for.

        Raises:
            Unaffordable: there are none.
        """
        bits = 0
        for offer in offers:
            if offer.payable:
                bits |= offer.bit
        for offer in offers:
            if not offer.payable and offer.bound is not None:
                most = offer.bound.pico(offer.bound.most_tokens)
                if bits:
                    self.purse.wish(offer.site.hard, most, now_s)
                else:
                    self.purse.want(offer.site.hard, offer.bound.least_pico, now_s, most_pico=most)
        if not bits:
            raise self._unaffordable(offers, now_s)
        return bits

    def worth(self, offers: Sequence[Offer], payable: int, means: Sequence[float]) -> tuple[int, float | None]:
        """The payable arms that are worth their money, and the price of money; None: no budget asks."""
        prices = [max((self._prices.get(each, 0.0) for each in offer.site.downgrade), default=0.0) for offer in offers]
        highest = max(prices, default=0.0)
        if highest <= 0.0:
            return payable, None
        weighed = [
            Priced(offer.bit, mean, offer.bound.pico(offer.bound.most_tokens) / PICO_PER_USD, price)
            for offer, mean, price in zip(offers, means, prices, strict=True)
            if offer.bit & payable and offer.bound is not None
        ]
        unknown = sum(offer.bit for offer in offers if offer.bit & payable and offer.bound is None)
        return worth_it(weighed) | unknown, highest

    def reserve(self, offer: Offer, now_s: float) -> tuple[Reservation, ...]:
        """Take an offer that can be paid; written down when this returns."""
        if not offer.site.hard or offer.bound is None:
            return ()
        made = self.purse.reserve(offer.site.hard, offer.bound.pico(offer.tokens), now_s)
        if made is None:
            raise RuntimeError("an offer that could be paid was not")
        try:
            for each in made:
                self._keep(each.account, each.cumulative_pico)
        except BaseException:
            self.cancel(made)
            raise
        return made

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

    def _sites_of(
        self, request: DecideRequest, arms: Sequence[tuple[int, Arm]], version: int, now_us: int
    ) -> tuple[Site, ...]:
        if now_us >= self._sites_until_us:
            self._sites = Recent(_SITES_KEPT)
            later = (each.effective_from_us for each in self._held.values() if each.effective_from_us > now_us)
            self._sites_until_us = min((now_us // _DAY_US + 1) * _DAY_US, *later, _FOREVER_US)
        bits = sum(bit for bit, _ in arms)
        key = (
            version, bits, request.project, request.feature, request.app, request.team, request.environment,
            request.user_hash, request.default_model if not version else None,
        )  # fmt: skip
        sites = self._sites.get(key)
        if sites is None:
            sites = self._sites[key] = tuple(self._site(request, arm, now_us) for _, arm in arms)
        return sites

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

    def _unaffordable(self, offers: Sequence[Offer], now_s: float) -> Unaffordable:
        if self._bounds is None:
            return Unaffordable("budget_wait", "the prices are being loaded")
        bounded = [offer for offer in offers if offer.bound is not None]
        if not bounded:
            budget = next((offer.site.hard[0] for offer in offers if offer.site.hard), None)
            return Unaffordable(
                "budget_unpriced", "no arm has a price, so what it may cost has no bound", budget=budget
            )
        cheapest = min(bounded, key=lambda offer: offer.bound.least_pico if offer.bound else 0)
        assert cheapest.bound is not None
        need = cheapest.bound.least_pico
        lacking = self.purse.lacking(cheapest.site.hard, need, now_s)
        asked = f"{to_usd(need).normalize():f} USD, the bound of the cheapest arm with {cheapest.bound.input_tokens} "
        asked += f"input and {cheapest.bound.least_tokens} output tokens"
        for instance in lacking:
            standing = self.purse.standing(instance, now_s)
            if standing.exhausted:
                detail = f"budget {instance} has no room for {asked}"
                return Unaffordable("budget_exhausted", detail, budget=instance, window_end_us=standing.window_end_us)
        detail = f"waiting for a lease of budget {lacking[0]} for {asked}"
        return Unaffordable("budget_wait", detail, budget=lacking[0])


def reservation_fields(made: Iterable[Reservation]) -> tuple[dict[str, Any], ...]:
    """Reservations as a decision event has them."""
    return tuple(
        {
            "budget": each.instance,
            "window": each.window,
            "account": each.account,
            "bound_usd": to_usd(each.bound_pico),
            "cumulative_usd": to_usd(each.cumulative_pico),
        }
        for each in made
    )
