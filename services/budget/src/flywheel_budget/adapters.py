"""The shell around the core: the budgets as they are read, and counting what comes out."""

from __future__ import annotations

from typing import Any

from flywheel.budget import Budget, BudgetInvalid, Matcher
from flywheel.observe import Metrics, logger
from flywheel.stream import Output

log = logger("budget")


class BudgetShelf:
    """Holds the newest budgets of a compacted table; a fold takes one ``Matcher`` per batch."""

    def __init__(self) -> None:
        self._budgets: dict[str, Budget] = {}
        self._matcher: Matcher | None = None

    @property
    def matcher(self) -> Matcher:
        """The budgets known now."""
        if self._matcher is None:
            self._matcher = Matcher(self._budgets.values())
        return self._matcher

    def update(self, key: str, event: dict[str, Any] | None) -> None:
        """Take a ``budget`` event over; one that can't be held, and a removal, change nothing."""
        if event is None:
            return
        try:
            budget = Budget.from_event(event)
        except BudgetInvalid as error:
            # Stage 1 reads the same record and sends it to the dead letters.
            log.warning("budget_invalid", key=key, field=error.field, why=error.message)
            return
        known = self._budgets.get(budget.key)
        if known is None or known.revision < budget.revision:
            self._budgets[budget.key] = budget
            self._matcher = None


def count_output(metrics: Metrics, output: Output) -> None:
    """Count what comes out, by budget."""
    value = output.value
    if output.event == "lease":
        metrics.count("leases_total", 1, budget=value["budget"], reason=value["reason"])
    elif output.event == "alert":
        metrics.count("budget_alerts_total", 1, kind=value["kind"])
    elif output.event == "budget_state" and output.key == f"{value['project']}/{value['budget']}":
        # One value of `each` is one user or team: too many for labels.
        metrics.gauge("budget_spent_usd", float(value["spent_usd"]), budget=value["budget"])
        metrics.gauge("budget_available_usd", float(value["available_usd"]), budget=value["budget"])
        metrics.gauge("budget_stranded_usd", float(value["stranded_usd"]), budget=value["budget"])
