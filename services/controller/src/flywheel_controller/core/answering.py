"""Answering alerts by the rules: what is done about each that fires, or why nothing is."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.control import Rule
from flywheel.events import event_id
from flywheel_controller.core.book import GIVEN_UP, PROPOSED, Alert, Done, Feature, Open
from flywheel_controller.core.ground import HOUR_US
from flywheel_controller.core.judging import Judging
from flywheel_controller.core.published import Unmade, step_of, unmade_step
from flywheel_controller.core.steps import Plan, concerns, plan


class Answering(Judging):
    """One project during a batch: what is done about alerts that fire."""

    def _answer_all(self) -> None:
        waiting = []
        for key, alert in self.book.alerts.items():
            if alert.firing and not alert.answered and not self._awaits_charter(alert):
                rule = self.tree.rule_for(alert.signal)
                if rule is not None and not self._silenced(alert, rule):
                    waiting.append((-rule.priority, alert.first_us, key, alert, rule))
        for *_, alert, rule in sorted(waiting, key=lambda each: each[:3]):
            self._answer(alert, rule)

    def _silenced(self, alert: Alert, rule: Rule) -> bool:
        """Whether the alert waits for the end of a silence; that is said once for each time it does."""
        if rule.in_silence == "act" or not self.book.silences:
            return False
        silence = self.book.silenced_by(alert, self._place.now_us)
        if silence is None:
            alert.told = [what for what in alert.told if what != "silenced"]
            return False
        why = f"{silence.by or 'a person'} expects it" + (f": {silence.reason}" if silence.reason else "")
        self._refuse(alert, rule, "silenced", f"{why} (silence {silence.silence_id})")
        return True

    def _answer(self, alert: Alert, rule: Rule) -> None:
        feature = self.book.features.get(alert.feature, Feature())
        in_force = self._open_on(alert.feature)
        found = plan(rule, alert, feature, self._charters.of(alert.feature), in_force)
        if feature.override is not None and (found is None or found.changes):
            self._refuse(alert, rule, "override", "a person's control is in force", found=found)
            return
        troubled = {arm.name for arm in feature.arms if concerns(arm, alert)}
        same = next((each for each in in_force if each.rule == rule.name and _covers(each, troubled)), None)
        if same is not None:
            same.cause.append(alert.alert_id)
            same.before[alert.alert_id] = alert.signal.deviation
            same.resolved_us = None
            alert.answered, alert.rule = same.action_id, rule.name
            return
        if found is None:
            self._refuse(alert, rule, "impossible", "none of the rule's steps can be done", escalate=True)
        elif not found.changes:
            self._speak(alert, rule, found)
        elif not self._held_back(alert, rule, found, in_force):
            self._apply(alert, rule, found, in_force)

    def _held_back(self, alert: Alert, rule: Rule, found: Plan, in_force: Sequence[Open]) -> bool:
        """Whether priority, cooldown, flapping or a limit forbids it; then that is said."""
        now_us, done = self._place.now_us, self.book.done
        for action in in_force:
            if not _apart(action, found) and action.priority >= rule.priority:
                self._refuse(alert, rule, "priority", f"rule {action.rule} holds the feature", found=found)
                return True
        mine = self._before(alert, rule, found)
        tried = [each for each in mine if each.state != "returned"]  # what returned did help: its cause came back
        if any(now_us - each.ended_us < rule.cooldown * 1e6 for each in tried):
            self._refuse(alert, rule, "cooldown", f"the same ended less than {rule.cooldown:g} s ago", found=found)
            return True
        if sum(now_us - each.applied_us < rule.flaps.within * 1e6 for each in mine) >= rule.flaps.most:
            why = f"done {rule.flaps.most} times within {rule.flaps.within:g} s"
            self._refuse(alert, rule, "flapping", why, found=found, escalate=True)
            return True
        if self.tree.mode == "dry_run":
            return False
        made = [(each.feature, each.applied_us) for each in done]
        made += [(each.feature, each.applied_us) for each in self.book.open.values()]
        recent = [feature for feature, at_us in made if now_us - at_us < HOUR_US]
        limits = self.tree.limits
        if len(recent) >= limits.per_hour or recent.count(alert.feature) >= limits.per_feature_per_hour:
            why = f"{len(recent)} changes in the last hour, {recent.count(alert.feature)} of the feature"
            self._refuse(alert, rule, "limit", why, found=found, escalate=True)
            return True
        return False

    def _before(self, alert: Alert, rule: Rule, found: Plan) -> list[Done]:
        """The times the same was done before."""
        mine = [each for each in self.book.done if each.rule == rule.name and each.feature == alert.feature]
        return [each for each in mine if each.arms == list(found.arms)]

    def _return_after_us(self, alert: Alert, rule: Rule, found: Plan) -> int:
        """How long after its cause is over it returns: twice as long each time it came back lately, as each return
        tries on callers whether it is."""
        since_us = self._place.now_us - rule.flaps.within * 1e6
        tries = [each for each in self._before(alert, rule, found) if each.applied_us > since_us]
        return int(rule.return_after * 1e6) << sum(each.state == "returned" for each in tries)

    def _apply(self, alert: Alert, rule: Rule, found: Plan, in_force: Sequence[Open]) -> None:
        identity, now_us = self._next_id(), self._place.now_us
        why = _why(alert, found)
        if self.tree.mode == "dry_run":
            unmade = Unmade(identity, found.kind, rule.name, self.tree.version, rule.priority, found.arms, dry_run=True)
            alert.answered, alert.rule = PROPOSED, rule.name
            self._say(unmade_step(self.book.project, alert, unmade, "proposed", now_us, reason=why))
            return
        for action in in_force:
            if not _apart(action, found):
                self._end(action, "superseded", f"rule {rule.name} has priority")
        action = Open(
            action_id=identity, rule=rule.name, rules_version=self.tree.version, priority=rule.priority,
            kind=found.kind, feature=alert.feature, arms=list(found.arms), cause=[alert.alert_id],
            cause_kind=alert.kind, scope=dict(alert.scope), before={alert.alert_id: alert.signal.deviation}, reason=why,
            applied_us=now_us, verify_by_us=now_us + int(rule.verify.within * 1e6), improve=rule.verify.improve,
            expires_us=None if found.kind == "rollback" else now_us + int(rule.expires_after * 1e6),
            return_after_us=self._return_after_us(alert, rule, found),
        )  # fmt: skip
        if found.taken_back is not None:
            action.change, action.undo_digest = found.taken_back.event_id, found.taken_back.digest
            action.revision = self._publish_charter(alert.feature, found.text, own=True)
        self.book.open[identity] = action
        alert.answered, alert.rule = identity, rule.name
        self._say(step_of(self.book.project, action, "applied", now_us, reason=why))

    def _speak(self, alert: Alert, rule: Rule, found: Plan) -> None:
        """Say what should be looked at: ``propose`` and ``escalate`` change nothing."""
        unmade = Unmade(self._next_id(), found.kind, rule.name, self.tree.version, rule.priority)
        why = _why(alert, found)
        alert.answered, alert.rule = (PROPOSED if found.kind == "propose" else GIVEN_UP), rule.name
        self._say(unmade_step(self.book.project, alert, unmade, "proposed", self._place.now_us, reason=why))
        if self.tree.mode == "act":
            kind = "proposed" if found.kind == "propose" else "escalated"
            self._escalate(alert, kind, f"{alert.title or alert.kind}: look at {alert.feature or 'it'}", why)

    def _refuse(
        self, alert: Alert, rule: Rule, what: str, why: str, *, found: Plan | None = None, escalate: bool = False
    ) -> None:
        if what in alert.told:
            return
        alert.told.append(what)
        identity = event_id(
            "refused", self.book.project, alert.feature, alert.alert_id, rule.name, what, self._place.partition,
            self._place.offset,
        )  # fmt: skip
        unmade = Unmade(
            identity, found.kind if found else rule.do[0].action, rule.name, self.tree.version, rule.priority
        )
        reason = f"{what}: {why}"
        self._say(unmade_step(self.book.project, alert, unmade, "refused", self._place.now_us, reason=reason))
        if escalate and self.tree.mode == "act":
            self._escalate(alert, what, f"{alert.title or alert.kind}: nothing was changed", reason)


def _covers(action: Open, troubled: set[str]) -> bool:
    """Whether an action in force is already the answer to trouble with these arms."""
    return action.kind != "disable" or (bool(troubled) and troubled <= set(action.arms))


def _apart(action: Open, found: Plan) -> bool:
    """Whether an action and a plan can be in force together: only arms that are disabled apart from each other."""
    return action.kind == found.kind == "disable" and not set(action.arms) & set(found.arms)


def _why(alert: Alert, found: Plan) -> str:
    seen = "" if alert.value is None else f" {alert.value:.6g}"
    held = "" if alert.threshold is None else f", held against {alert.threshold:.6g}"
    return f"{alert.kind}{seen}{held}" + (f"; {found.why}" if found.why else "")
