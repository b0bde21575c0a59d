"""The budgets that a charter declares, as budgets of their own: what ``flywheel charter apply`` publishes beside it."""

from __future__ import annotations

from decimal import Decimal
from hashlib import blake2b
from typing import Final
from urllib.parse import quote

from flywheel.budget import Budget, BudgetInvalid, check, to_pico
from flywheel.budget.declared import MAX_NAME
from flywheel.policy import Charter

_HASHED: Final = 16


def name_prefix(charter: Charter) -> str:
    """What the names of the budgets of a charter begin with, and nothing else's."""
    return f"charter.{quote(charter.feature, safe='')}."


def budgets_of(charter: Charter) -> tuple[Budget, ...]:
    """Return the budgets under ``budgets:``. They count calls of the charter's feature, unless a scope names
    another.

    The name is made of what a budget counts, as that never changes under one name; the amount and the mode may.

    Raises:
        BudgetInvalid: one can't be held; its field begins with ``budgets.<index>``.
    """
    found: dict[str, Budget] = {}
    for index, declared in enumerate(charter.budgets):
        scope = tuple(sorted(({"feature": charter.feature} | declared.scope).items()))
        rest = [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(declared.scope.items())]
        budget = Budget(
            project=charter.project,
            name=_short(name_prefix(charter) + ".".join([declared.per, *rest])),
            revision=1,
            effective_from_us=0,
            amount_pico=to_pico(Decimal(str(declared.usd))),
            per=declared.per,
            scope=scope,
            mode=declared.mode,
        )
        try:
            check(budget)
            if budget.name in found:
                raise BudgetInvalid("scope", "is declared twice for the same window")
        except BudgetInvalid as error:
            raise BudgetInvalid(f"budgets.{index}.{error.field}", error.message) from error
        found[budget.name] = budget
    return tuple(found.values())


def _short(name: str) -> str:
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - _HASHED - 1]}~{blake2b(name.encode(), digest_size=_HASHED // 2).hexdigest()}"
