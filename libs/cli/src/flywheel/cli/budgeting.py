"""Puts budgets on their topic, and reads where they stand."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from flywheel.budget import Budget, BudgetInvalid, changed_identity
from flywheel.cli.publishing import ApplyFailed, asked, newest_of
from flywheel.events import Codec
from flywheel.stream import KafkaBus, Output, Publisher

BUDGETS: Final = "budgets"
STATES: Final = "budget-states"


@dataclass(frozen=True, slots=True)
class AppliedBudget:
    """What became of a declared budget: ``changed`` is false when the newest revision already says the same."""

    project: str
    budget: str
    revision: int
    changed: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one instance of a budget stands. Money is in US dollars; ``window_end`` is None before anything happened.

    Of a window that is over nothing is told: the new one has spent nothing that is known of.
    """

    instance: str
    mode: str
    per: str
    amount_usd: Decimal
    spent_usd: Decimal
    exposure_usd: Decimal
    available_usd: Decimal
    stranded_usd: Decimal
    unpriced: int
    window_end: str | None
    forecast_usd: Decimal | None
    exhausted: bool
    ended: bool


def next_revision(declared: Budget, known: Budget | None, now_us: int) -> Budget:
    """Return what is to be published, or ``known`` itself where nothing changes.

    Raises:
        ApplyFailed: the declaration changes what the budget counts.
    """
    if known is None:
        return declared.at_revision(1, effective_from_us=now_us, ended=declared.ended)
    field = changed_identity(known, declared)
    if field is not None:
        raise ApplyFailed(
            f"{declared.key}: {field}: what a budget counts never changes under one name; "
            "end this one (ended: true) and declare another"
        )
    since_us = now_us if known.ended and not declared.ended else known.effective_from_us
    same = declared.at_revision(known.revision, effective_from_us=known.effective_from_us, ended=declared.ended)
    if same == known:
        return known
    return declared.at_revision(known.revision + 1, effective_from_us=since_us, ended=declared.ended)


def withdrawn(budgets: Sequence[Budget], known: Sequence[Budget], project: str, prefix: str) -> list[Budget]:
    """Return those of ``known`` that ``budgets`` no longer have, ended."""
    kept = {budget.key for budget in budgets}
    return [
        replace(budget, ended=True)
        for budget in known
        if (budget.project, budget.ended) == (project, False)
        and budget.name.startswith(prefix)
        and budget.key not in kept
    ]


async def apply_budgets(
    bootstrap: str, budgets: Sequence[Budget], *, all_of: tuple[str, str] | None = None
) -> list[AppliedBudget]:
    """Publish each budget as the next revision of its name, unless the newest already says the same. All or none.

    ``all_of``: a project, and how names in it begin: these are all there are, so others that begin so are ended.

    Raises ``ApplyFailed``.
    """
    return await asked(bootstrap, "publishing budgets", lambda bus, codec: _apply(bus, codec, budgets, all_of))


async def standings(bootstrap: str) -> list[Standing]:
    """Return where every instance stands that anything is known of. Raises ``ApplyFailed``."""
    return await asked(bootstrap, "reading budgets", _standings)


async def _apply(
    bus: KafkaBus, codec: Codec, budgets: Sequence[Budget], all_of: tuple[str, str] | None
) -> list[AppliedBudget]:
    now_us = time.time_ns() // 1000
    known = {key: _held(value) for key, value in (await newest_of(bus, codec, BUDGETS)).items()}
    if all_of is not None:
        budgets = [*budgets, *withdrawn(budgets, [budget for budget in known.values() if budget], *all_of)]
    newest = [(next_revision(b, known.get(b.key), now_us), known.get(b.key)) for b in budgets]
    changed = [budget for budget, before in newest if budget is not before]
    publisher = Publisher(bus, codec, source="cli")
    await publisher.start()
    try:
        await publisher.publish([Output(BUDGETS, b.key, "budget", b.event(now_us)) for b in changed])
    finally:
        await publisher.stop()
    return [AppliedBudget(b.project, b.name, b.revision, b is not before) for b, before in newest]


async def _standings(bus: KafkaBus, codec: Codec) -> list[Standing]:
    budgets = {key: held for key, value in (await newest_of(bus, codec, BUDGETS)).items() if (held := _held(value))}
    states = await newest_of(bus, codec, STATES)
    now_us = time.time_ns() // 1000
    named = {f"{state['project']}/{state['budget']}" for state in states.values()}
    found = [standing(key, b, None, now_us) for key, b in budgets.items() if key not in named and not b.each]
    for instance, state in states.items():
        budget = budgets.get(f"{state['project']}/{state['budget']}")
        if budget is not None:
            found.append(standing(instance, budget, state, now_us))
    return sorted(found, key=lambda one: one.instance)


def standing(instance: str, budget: Budget, state: Mapping[str, Any] | None, now_us: int) -> Standing:
    """Return where an instance stands by its newest ``budget_state`` (None: there is none)."""
    amount_usd: Decimal = budget.terms()["amount_usd"]
    over = state is None or (budget.per != "rolling" and state["window_end"] <= now_us)
    found: Mapping[str, Any] = {} if over or state is None else state
    nothing = Decimal(0)
    end_us = found.get("window_end")
    return Standing(
        instance=instance,
        mode=budget.mode,
        per=budget.per if budget.rolling_s is None else f"{budget.rolling_s} s",
        amount_usd=amount_usd,
        spent_usd=found.get("spent_usd", nothing),
        exposure_usd=found.get("exposure_usd", nothing),
        available_usd=found.get("available_usd", amount_usd),
        stranded_usd=found.get("stranded_usd", nothing),
        unpriced=found.get("unpriced", 0),
        window_end=None if end_us is None else datetime.fromtimestamp(end_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        forecast_usd=found.get("forecast_usd"),
        exhausted=found.get("exhausted", False),
        ended=budget.ended,
    )


def _held(value: Mapping[str, Any]) -> Budget | None:
    try:
        return Budget.from_event(value)
    except BudgetInvalid:  # the budget service sends it to the dead letters
        return None
