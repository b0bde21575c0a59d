"""When an alert begins and ends, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

from flywheel.events import event_id
from flywheel.stream import Output
from flywheel_monitor.core.burning import Burning, Severity, burn_rate, span_text, worst
from flywheel_monitor.core.objectives import Objective, Tally

ALERTS: Final = "alerts"
KIND: Final = "slo_burn"
LEVELS: Final[Mapping[Severity, str]] = {"page": "critical", "ticket": "warning"}


@dataclass(frozen=True, slots=True)
class Terms:
    """When to speak. ``least_bad``: fewest bad events in a rule's long window; ``ease``: a firing alert goes on while
    the budget burns at this share of a rule's rate; ``quiet_us``: it is over when it has not for so long."""

    least_bad: int = 5
    ease: Fraction = Fraction(9, 10)
    quiet_us: int = 120_000_000


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an alert stands. ``since_us``: it fires since then, or is over since then. ``quiet_us``: since when no rule
    holds any more while it fires. ``told``: whether the log has what it says now."""

    firing: bool
    since_us: int
    first_us: int
    quiet_us: int | None = None
    told: bool = False
    said: Mapping[str, Any] | None = None

    def record(self) -> dict[str, Any]:
        """The standing as JSON holds it."""
        return {
            "firing": self.firing,
            "since_us": self.since_us,
            "first_us": self.first_us,
            "quiet_us": self.quiet_us,
            "told": self.told,
            "said": None if self.said is None else dict(self.said),
        }

    def marked_told(self) -> Standing:
        """The same, known to be on the log."""
        return replace(self, told=True)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Standing:
        """Read what ``record`` wrote."""
        return cls(**record)


def step(
    objective: Objective,
    severity: Severity,
    burns: Sequence[Burning],
    standing: Standing | None,
    *,
    now_us: int,
    terms: Terms,
) -> Standing | None:
    """Where the alert of a severity stands now. It begins when any of its rules holds, and ends when none has held,
    with ease, for a while: one that hovers at a rate neither fires nor ends again and again."""
    if standing is None or not standing.firing:
        holding = [each for each in burns if each.holds(terms.least_bad)]
        if not holding:
            return standing
        found = worst(holding)
        begun = Standing(True, now_us, now_us)
        return _saying(begun, objective, severity, found, now_us)
    if any(each.holds(1, terms.ease) for each in burns):
        return _with_quiet(standing, None)
    quiet_us = standing.quiet_us if standing.quiet_us is not None else now_us
    if now_us - quiet_us < terms.quiet_us:
        return _with_quiet(standing, quiet_us)
    over = Standing(False, now_us, standing.first_us)
    return _saying(over, objective, severity, worst(burns) if burns else None, now_us)


def ended(standing: Standing, now_us: int) -> Standing | None:
    """The end of an alert whose objective is no longer declared; None where there is nothing to end."""
    if not standing.firing or standing.said is None:
        return None
    said = dict(standing.said) | {
        "event_id": event_id("alert", standing.said["alert_id"], "resolved", standing.first_us),
        "occurred_at": now_us,
        "state": "resolved",
        "detail": "The objective is no longer declared.",
    }
    return Standing(False, now_us, standing.first_us, said=said)


def alert_output(standing: Standing) -> Output:
    """What is to be told."""
    if standing.said is None:
        raise ValueError("an alert that never fired has nothing to say")
    value = dict(standing.said)
    return Output(ALERTS, value["subject"], "alert", value)


def alert_name(objective: Objective, severity: Severity) -> str:
    """The key under which an alert stands."""
    return f"{objective.name}/{severity}"


def alert_identity(objective: Objective, severity: Severity) -> str:
    """The id of what an alert is about: the same whenever it fires again."""
    return event_id(KIND, objective.series.project, objective.series.feature, objective.label, severity)


def _with_quiet(standing: Standing, quiet_us: int | None) -> Standing:
    return standing if standing.quiet_us == quiet_us else replace(standing, quiet_us=quiet_us)


def _saying(
    standing: Standing, objective: Objective, severity: Severity, found: Burning | None, now_us: int
) -> Standing:
    state = "firing" if standing.firing else "resolved"
    identity = alert_identity(objective, severity)
    series = objective.series
    tally = found.tally if found is not None else Tally(0, 0)
    burning = burn_rate(tally, objective.budget)
    value: dict[str, Any] = {
        "event_id": event_id("alert", identity, state, standing.first_us),
        "alert_id": identity,
        "project": series.project,
        "occurred_at": now_us,
        "kind": KIND,
        "severity": LEVELS[severity],
        "state": state,
        "scope": {"feature": series.feature},
        "subject": f"{series.project}/{series.feature}",
        "title": _title(objective, standing, burning),
        "detail": "" if found is None else _detail(objective, found, burning),
        "value": None if burning is None else float(burning),
        "threshold": None if found is None else float(found.rule.rate),
        "window_start": None if found is None else now_us - found.rule.long_us,
        "window_end": now_us,
        "attributes": _attributes(objective, severity, found),
    }
    return Standing(standing.firing, standing.since_us, standing.first_us, said=value)


def _title(objective: Objective, standing: Standing, burning: Fraction | None) -> str:
    about = f"{objective.series.feature}: {objective.label}"
    if not standing.firing:
        return f"{about}: the error budget burns no faster than it may"
    return f"{about}: the error budget burns {float(burning or 0):.3g} times as fast as it may"


def _detail(objective: Objective, found: Burning, burning: Fraction | None) -> str:
    rule, tally = found.rule, found.tally
    return (
        f"{tally.bad} of {tally.total} bad in {span_text(rule.long_us)}, where {float(objective.budget):.4g} may be: "
        f"burn rate {float(burning or 0):.4g}, in the last {span_text(rule.short_us)} {float(found.short or 0):.4g}; "
        f"rule {rule.text}"
    )


def _attributes(objective: Objective, severity: Severity, found: Burning | None) -> dict[str, str]:
    named = {
        "slo": objective.label,
        "metric": objective.metric,
        "budget": f"{float(objective.budget):.9g}",
        "period": span_text(objective.period_us),
        "urgency": severity,
    }
    if found is not None and found.tally.total:
        named |= {
            "rule": found.rule.text,
            "expected": named["budget"],
            "observed": f"{found.tally.bad / found.tally.total:.9g}",
        }
    return named
