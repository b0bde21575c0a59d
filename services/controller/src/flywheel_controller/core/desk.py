"""One project's controller: takes facts in the ledger's order, acts by the rules, judges, takes back.

Pure: the time is the ledger's. Nothing here is done because of the order of a dictionary: what is walked is sorted.
"""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.control import Record, Silence, Tree
from flywheel.events import event_id
from flywheel_controller.core.answering import Answering
from flywheel_controller.core.book import MAX_SILENCES, PROPOSED, Alert, Declared, KnownArm, Open, Override
from flywheel_controller.core.ground import Place
from flywheel_controller.core.published import override_step
from flywheel_controller.core.steps import concerns, plan


class Desk(Answering):
    """One project during a batch: the facts it takes."""

    def at(self, place: Place) -> None:
        """Go on to an entry of the ledger."""
        self._place, self._made = place, 0

    def time(self, place: Place) -> None:
        """Take the time: only this judges and takes back. It is told when every fact before it is on the ledger, so
        that nobody is judged by how long the controller was away."""
        self.at(place)
        if self.book.due_us is not None and self.book.due_us <= place.now_us:
            for alert in self.book.alerts.values():
                alert.charter = 0  # nothing waits to be read: what was not heard of by now is not to come
            self._elapse()
            self.settle()

    def settle(self) -> None:
        """After an entry: answer what fires, say what is in force, and set the time to look again."""
        self._answer_all()
        self._publish_controls()
        self.book.due_us = self._next_due()

    def alert(self, reported: Alert) -> bool:
        """Take a report of an alert; False when a newer one is known."""
        places = self._places(reported)
        return any([self._report(each) for each in places])

    def _places(self, reported: Alert) -> list[Alert]:
        """An alert about a model without a feature is one for each feature that has the model."""
        if reported.feature or not reported.scope.get("model"):
            return [reported]
        found = [
            name for name, feature in sorted(self.book.features.items())
            if any(concerns(arm, reported) for arm in feature.arms)
        ]  # fmt: skip
        return [_about(reported, name) for name in found] or [reported]

    def _report(self, reported: Alert) -> bool:
        alerts, key = self.book.alerts, f"{reported.alert_id}\x1f{reported.feature}"
        known = alerts.get(key)
        if known is not None and reported.said_us < known.said_us:
            return False
        if known is None and not reported.firing:
            return False
        if known is None or (reported.firing and not known.firing):
            alerts[key] = reported
            self._crowded()
        else:
            reported.first_us, reported.answered, reported.rule = known.first_us, known.answered, known.rule
            reported.told, reported.escalations = known.told, known.escalations
            reported.began_by_us = known.began_by_us
            if not reported.scope:
                reported.scope = known.scope
            alerts[key] = reported
        self._heard(reported)
        return True

    def _heard(self, alert: Alert) -> None:
        answering = [each for each in self.book.open.values() if alert.alert_id in each.cause]
        if alert.firing:
            for action in answering:
                action.resolved_us = None
            rule = self.tree.rule_for(alert.signal)
            if alert.verdict == "judge":
                self._exonerated(answering)
            if alert.answered == PROPOSED and rule is not None and rule.name != alert.rule:
                alert.answered, alert.told = "", []  # it became worse, or the rules changed
            return
        for kind in alert.escalations:
            self._tell(alert, kind, "resolved", title=f"{alert.title or alert.kind}: resolved", detail="")
        alert.answered, alert.rule, alert.told, alert.escalations = "", "", [], []
        for action in sorted(answering, key=lambda each: each.action_id):
            if self._all_resolved(action):
                action.resolved_us = self._place.now_us
                if not action.verified and not self._elsewhere(action):
                    self._verified(action, 0.0, "every alert it answers is resolved")

    def _exonerated(self, actions: Sequence[Open]) -> None:
        """Take back what was done about arms before it was known that it is the judge who changed."""
        for action in sorted(actions, key=lambda each: each.action_id):
            causes = [self._find(alert_id, action.feature) for alert_id in action.cause]
            rules = [self.tree.rule_for(each.signal) for each in causes if each is not None and each.firing]
            if all(rule is None or rule.name != action.rule for rule in rules):
                self._end(action, "undone", "the judge changed, not what it judges")

    def charter(self, feature_name: str, declared: Declared, default: str, arms: Sequence[KnownArm]) -> bool:
        """Take a charter over; False when it is one of the controller's own or not the newest."""
        known = self._charters.of(feature_name)
        same = next((each for each in known if each.revision == declared.revision), None)
        if same is not None and same.digest == declared.digest:
            declared.own = same.own
            if known[-1] is same:
                self._arms(feature_name, default, arms)
            return False
        if known and declared.revision < known[-1].revision:
            return False
        self._charters.keep(feature_name, declared)
        self._arms(feature_name, default, arms)
        for action in self._open_on(feature_name, "rollback"):
            self._end(action, "superseded", f"charter revision {declared.revision} was applied by somebody else")
        for action in self._open_on(feature_name):
            if self._late_cause(action):
                self._end(action, "superseded", f"charter revision {declared.revision} came before it and is to blame")
        if same is not None:  # a person and the controller took the same revision: the person's word is said again
            self._publish_charter(feature_name, declared.text, own=False)
        return True

    def _late_cause(self, action: Open) -> bool:
        """Whether an action not verified yet would have been a rollback, had the charter been heard of in time: topics
        are read side by side, and after a pause a change may be read behind the alerts that it caused."""
        if action.verified or action.kind == "rollback":
            return False
        alert = self._find(action.cause[0], action.feature)
        rule = self.tree.rule_for(alert.signal) if alert is not None and alert.firing else None
        if alert is None or rule is None or rule.name != action.rule:
            return False
        feature, charters = self.book.feature(action.feature), self._charters.of(action.feature)
        found = plan(rule, alert, feature, charters, self._open_on(action.feature))
        return found is not None and found.kind == "rollback"

    def policy(self, feature_name: str, version: int, beliefs: dict[str, tuple[float | None, float | None]]) -> bool:
        """Take the mean reward and the price of each arm over."""
        feature = self.book.feature(feature_name)
        if version <= feature.policy_version:
            return False
        feature.policy_version = version
        for arm in feature.arms:
            if arm.name in beliefs:
                arm.mean, arm.price = beliefs[arm.name]
        return True

    def override(self, record: Record) -> bool:
        """Take a person's word over: whatever the controller has in force on the feature goes."""
        feature = self.book.feature(record.feature)
        if record.revision <= feature.person_revision:
            return False
        feature.person_revision = record.revision
        live = record.live(self._place.now_us)
        if feature.override is not None:
            self._end_override(record.feature, "superseded" if live else "lifted")
        if not live:
            return True
        identity = event_id("override", self.book.project, record.feature, record.revision)
        arms = [name for item in record.items for name in item.arms]
        feature.override = Override(
            identity, record.by, record.reason, arms, record.revision, self._place.now_us, record.expires_us
        )
        self._say(override_step(self.book.project, record.feature, feature.override, "applied", self._place.now_us))
        for action in self._open_on(record.feature):
            self._end(action, "overridden", f"{record.by or 'a person'} took over")
        return True

    def silence(self, said: Silence) -> bool:
        """Take over which alerts a person expects. One whose end has passed is forgotten, a lifted one not before, as
        an older word may come late; of too many the one that ends first."""
        held = self.book.silences
        known = held.get(said.silence_id)
        if known is not None and said.revision <= known["revision"]:
            return False
        held[said.silence_id] = said.event()
        for gone in [key for key, each in held.items() if each["ends_at"] <= self._place.now_us]:
            del held[gone]
        while len(held) > MAX_SILENCES:
            del held[min(held, key=lambda key: (held[key]["ends_at"], key))]
        return True

    def rules(self, revision: int, text: str, tree: Tree) -> bool:
        """Take rules over; what is in force keeps the terms it was made under."""
        if revision <= self.book.rules_revision:
            return False
        self.book.rules_revision, self.book.rules_text, self.tree = revision, text, tree
        for alert in self.book.alerts.values():
            alert.told = []
            if alert.answered == PROPOSED:
                alert.answered = ""
        return True


def _about(alert: Alert, feature: str) -> Alert:
    scope = {**alert.scope, "feature": feature}
    copied = {name: getattr(alert, name) for name in Alert.__slots__}
    return Alert(**{**copied, "feature": feature, "scope": scope, "told": [], "escalations": []})
