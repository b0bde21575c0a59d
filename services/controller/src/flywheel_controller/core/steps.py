"""Which of a rule's steps can be done about an alert, and what it would change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flywheel.control import Rule, Step
from flywheel_controller.core.book import Alert, Declared, Feature, KnownArm, Open


class Plan(NamedTuple):
    """What would be done. ``taken_back``, ``text``: of a rollback, the charter that goes, the text that returns."""

    kind: str
    arms: tuple[str, ...] = ()
    why: str = ""
    taken_back: Declared | None = None
    text: str = ""

    @property
    def changes(self) -> bool:
        """Whether anything would be in force."""
        return self.kind not in ("propose", "escalate")


def plan(
    rule: Rule, alert: Alert, feature: Feature, charters: Sequence[Declared], in_force: Sequence[Open]
) -> Plan | None:
    """Return the first step of a rule that can be done; None where none can."""
    for step in rule.do:
        found = _plan(step, alert, feature, charters, in_force)
        if found is not None:
            return found
    return None


def _plan(
    step: Step, alert: Alert, feature: Feature, charters: Sequence[Declared], in_force: Sequence[Open]
) -> Plan | None:
    if step.action in ("propose", "escalate"):
        return Plan(step.action)
    if not alert.feature:
        return None
    if step.action == "rollback":
        return _rollback(step, alert, charters)
    gone = {name for action in in_force if action.kind == "disable" for name in action.arms}
    left = [arm for arm in feature.arms if arm.enabled and arm.name not in gone]
    if len(left) < 2:
        return None
    troubled = {arm.name for arm in left if concerns(arm, alert)}
    if step.action == "disable":
        if not troubled or len(troubled) == len(left):
            return None
        return Plan("disable", tuple(sorted(troubled)))
    if step.action == "cheapest":
        return _cheapest(step, left, troubled)
    name = step.arm or feature.default
    if name in troubled or name not in {arm.name for arm in left}:
        return None
    return Plan(step.action, (name,))


def concerns(arm: KnownArm, alert: Alert) -> bool:
    """Return whether an alert names an arm, by itself or by its model (with or without the provider in front)."""
    if "arm" in alert.scope:
        return alert.scope["arm"] == arm.name
    model = alert.scope.get("model")
    if not model:
        return False
    provider = alert.scope.get("provider")
    if provider and arm.model == f"{provider}/{model}":
        return True
    return arm.model == model or (not provider and arm.model.endswith(f"/{model}"))


def _rollback(step: Step, alert: Alert, charters: Sequence[Declared]) -> Plan | None:
    """The change must have come before the trouble, not long ago, and not be the controller's own. One that came after
    the trouble began, though before it was noticed, can't be to blame."""
    if len(charters) < 2:
        return None
    newest = charters[-1]
    since_us = alert.first_us - newest.at_us
    if newest.own or not 0 <= since_us <= step.changed_within * 1e6:
        return None
    if alert.began_by_us is not None and newest.at_us > alert.began_by_us:
        return None
    before = next((each for each in reversed(charters) if each.digest != newest.digest), None)
    if before is None:
        return None
    why = f"revision {newest.revision} came {since_us / 1e6:.0f} s before"
    return Plan("rollback", (), why, newest, before.text)


def _cheapest(step: Step, left: Sequence[KnownArm], troubled: set[str]) -> Plan | None:
    known = [(arm.price, -arm.mean, arm.name) for arm in left if arm.price is not None and arm.mean is not None]
    if len(known) < 2:
        return None
    best = max(-mean for _, mean, _ in known)
    # Of a reward that is never positive, "at least a share of the best" would shut out the best itself.
    least = best * step.acceptable if best > 0 else best / max(step.acceptable, 1e-9)
    price, _, name = min(each for each in known if -each[1] >= least)
    if name in troubled:
        return None
    return Plan("pin", (name,), f"cheapest acceptable: {price:.6g} USD a call")
