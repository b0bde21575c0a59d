"""What a call of each arm can cost, and what pays for it: the same for all requests that look alike. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flywheel.budget.bounds import BoundRates, CallBound, CallSize, Limits, bound_of, bound_of_both
from flywheel.budget.leases import Reservation
from flywheel.policy import Arm


@dataclass(frozen=True, slots=True)
class Site:
    """What budgets say about one arm for requests that look alike."""

    hard: tuple[str, ...]
    limits: Limits
    downgrade: tuple[str, ...]
    cap: int | None
    rates: BoundRates | None


class Look(NamedTuple):
    """What budgets say about requests that look alike, whatever their size."""

    arms: tuple[Arm, ...]
    bits: tuple[int, ...]
    sites: tuple[Site, ...]
    targets: tuple[int | None, ...]
    hard: tuple[str, ...] | None
    pressed: bool


class Plan(NamedTuple):
    """The arms that may serve a request and what each can cost; the same for every request that looks alike.

    ``hard`` is what all arms fall under alike (None: they differ), and ``enough_pico`` what it takes there for all of
    them to be payable (None: one of them never is). ``targets``: the place of the arm that each escalates to, and
    ``both`` what the two calls can cost where one reservation can pay them.
    """

    arms: tuple[Arm, ...]
    bits: tuple[int, ...]
    sites: tuple[Site, ...]
    bounds: tuple[CallBound | None, ...]
    targets: tuple[int | None, ...]
    both: tuple[CallBound | None, ...]
    all_bits: int
    hard: tuple[str, ...] | None
    enough_pico: int | None
    pressed: bool


def covered(plan: Plan, made: Sequence[Reservation]) -> dict[str, int | None]:
    """The arms of a plan that the reservations ``made`` pay for, and the cap on the output of each; None: no hard
    budget says any. Without reservations those under no hard budget."""
    found: dict[str, int | None] = {}
    instances = {each.instance for each in made}
    least_pico = min((each.bound_pico for each in made), default=0)
    for arm, site, bound in zip(plan.arms, plan.sites, plan.bounds, strict=True):
        if not made and not site.hard:
            found[arm.name] = None
        elif made and bound is not None and set(site.hard) == instances:
            tokens = bound.tokens_for(least_pico)
            if tokens >= bound.least_tokens:
                found[arm.name] = tokens
    return found


def pays_both(plan: Plan, place: int, made: Sequence[Reservation], tokens: int | None) -> bool:
    """Whether the arm at ``place`` may be followed by the one it escalates to, each with ``tokens`` as the cap on its
    output: the reservations ``made`` pay for both, or neither needs any."""
    target, both = plan.targets[place], plan.both[place]
    if target is None:
        return False
    if not made:
        return not plan.sites[place].hard and not plan.sites[target].hard
    if both is None or tokens is None or {each.instance for each in made} != set(plan.sites[place].hard):
        return False
    return min(each.bound_pico for each in made) >= both.pico(tokens)


def _both(look: Look, bounds: Sequence[CallBound | None], place: int) -> CallBound | None:
    target, bound = look.targets[place], bounds[place]
    follows = None if target is None else bounds[target]
    if target is None or bound is None or follows is None or look.sites[target].hard != look.sites[place].hard:
        return None
    return bound_of_both(bound, follows)


def plan_of(look: Look, size: CallSize) -> Plan:
    """What each arm of a look can cost with a call of that size."""
    bounds = tuple(
        None if site.rates is None else bound_of(site.rates, size, site.limits, site.cap) for site in look.sites
    )
    enough = None if None in bounds else max(bound.least_pico for bound in bounds if bound is not None)
    both = tuple(_both(look, bounds, place) for place in range(len(bounds)))
    return Plan(
        look.arms, look.bits, look.sites, bounds, look.targets, both, sum(look.bits), look.hard, enough, look.pressed
    )  # fmt: skip
