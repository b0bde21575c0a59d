"""Error budgets, burn rates and the rules that watch them.

From "The Site Reliability Workbook" (Beyer, Murphy, Rensin, Kawahara and Thorne, 2018), chapter 5, "Alerting on SLOs",
approach 6: multiwindow, multi-burn-rate alerts, table 5-8, with a rule of a day between its six hours and its three
days. The burn rate says how fast, relative to the objective, the error budget is used: at 1 it is gone exactly at the
end of the period.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from flywheel_monitor.core.objectives import Objective, Tally
from flywheel_monitor.core.spans import DAY_US, HOUR_US, MINUTE_US

Severity = Literal["page", "ticket"]
SEVERITIES: Final[tuple[Severity, ...]] = ("page", "ticket")


@dataclass(frozen=True, slots=True)
class Rule:
    """Tells when the budget burns at least ``rate`` times as fast as it may, over the long and the short window. The
    long one says that it matters, the short one that it still goes on."""

    severity: Severity
    rate: Fraction
    long_us: int
    short_us: int

    @property
    def text(self) -> str:
        """The rule in short, e.g. ``14.4x over 1h and 5m``."""
        return f"{float(self.rate):g}x over {span_text(self.long_us)} and {span_text(self.short_us)}"

    def consumed(self, period_us: int) -> Fraction:
        """The share of a period's error budget that is used when the long window burned at exactly this rate."""
        return self.rate * self.long_us / period_us

    def detection_us(self, budget: Fraction, bad_share: Fraction) -> Fraction | None:
        """How long events must be bad at this share, after none were, until the rule holds; None where it never does.
        Chapter 5: ``(1 - SLO) / error ratio x alerting window x burn rate``."""
        needed = self.rate * budget / bad_share
        return needed * self.long_us if needed <= 1 else None

    def reachable(self, budget: Fraction) -> bool:
        """Whether the rule holds when everything is bad. With a budget above 1/rate nothing can burn that fast."""
        return self.rate * budget <= 1


RULES: Final = (
    Rule("page", Fraction("14.4"), HOUR_US, 5 * MINUTE_US),
    Rule("page", Fraction(6), 6 * HOUR_US, 30 * MINUTE_US),
    Rule("ticket", Fraction(3), DAY_US, 2 * HOUR_US),
    Rule("ticket", Fraction(1), 3 * DAY_US, 6 * HOUR_US),
)
WINDOWS_US: Final = tuple(sorted({span for rule in RULES for span in (rule.long_us, rule.short_us)}))


def rules_for(objective: Objective) -> list[Rule]:
    """The rules that can hold for an objective: no longer than its period, and within what can burn."""
    return [rule for rule in RULES if rule.long_us <= objective.period_us and rule.reachable(objective.budget)]


def burn_rate(tally: Tally, budget: Fraction) -> Fraction | None:
    """How fast a budget burns; None where nothing happened."""
    return Fraction(tally.bad, tally.total) / budget if tally.total else None


def budget_left(tally: Tally, budget: Fraction) -> Fraction | None:
    """The share of the period's error budget that is left, below 0 when it is overspent; None where nothing happened.
    The budget is a share of what did happen in the period, not of what is still to come."""
    rate = burn_rate(tally, budget)
    return None if rate is None else 1 - rate


@dataclass(frozen=True, slots=True)
class Burning:
    """A rule looked at: the burn rates of both windows (None: nothing happened) and the long window's tally."""

    rule: Rule
    long: Fraction | None
    short: Fraction | None
    tally: Tally

    def holds(self, least_bad: int, ease: Fraction = Fraction(1)) -> bool:
        """Whether both windows burn at the rule's rate, times ``ease``, and the long one has so many bad events: of a
        handful of calls one failure is no rate."""
        needed = self.rule.rate * ease
        return (
            self.tally.bad >= least_bad
            and self.long is not None
            and self.short is not None
            and min(self.long, self.short) >= needed
        )


def worst(burns: Sequence[Burning]) -> Burning:
    """The one that burns most above its rule's rate."""
    return max(burns, key=lambda each: min(each.long or 0, each.short or 0) / each.rule.rate)


def span_text(span_us: int) -> str:
    """A length of time, e.g. ``5m``, ``6h`` or ``3d``."""
    for unit, size_us in (("d", DAY_US), ("h", HOUR_US), ("m", MINUTE_US)):
        if span_us % size_us == 0:
            return f"{span_us // size_us}{unit}"
    return f"{span_us / 1_000_000:g}s"
