"""What answering and judging stand on: the project's book, its charters, the place in the ledger, what is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from flywheel.control import Tree
from flywheel.events import event_id
from flywheel.stream import Output
from flywheel_controller.core.book import MAX_ALERTS, MAX_CHARTERS, Alert, Book, Declared, KnownArm, Open
from flywheel_controller.core.published import again, charter_output, control_output, told_person
from flywheel_controller.core.steps import concerns

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
LOOK_AGAIN_US: Final = 60_000_000
"""How often an alert about which nothing could be done is looked at again."""


class Place(NamedTuple):
    """Where in the ledger something is done: time, partition and offset."""

    now_us: int
    partition: int
    offset: int


class Charters:
    """The last charters of each feature, by revision; kept apart from the book, as they are long."""

    def __init__(self, load: Callable[[str], list[Declared]]) -> None:
        self._load = load
        self._held: dict[str, list[Declared]] = {}
        self.changed: set[str] = set()

    def of(self, feature: str) -> list[Declared]:
        """Return a feature's charters, the newest last."""
        if feature not in self._held:
            self._held[feature] = self._load(feature)
        return self._held[feature]

    def keep(self, feature: str, declared: Declared) -> None:
        """Put a charter in its place; the oldest are forgotten."""
        others = [each for each in self.of(feature) if each.revision != declared.revision]
        held = sorted([*others, declared], key=lambda each: each.revision)
        self._held[feature] = held[-MAX_CHARTERS:]
        self.changed.add(feature)


class Ground:
    """One project during a batch."""

    def __init__(self, book: Book, tree: Tree, charters: Charters, outputs: list[Output]) -> None:
        self.book, self.tree, self._charters, self._outputs = book, tree, charters, outputs
        self._place = Place(0, 0, 0)
        self._made = 0

    def _publish_controls(self) -> None:
        for name, feature in sorted(self.book.features.items()):
            mine = sorted(self._open_on(name), key=lambda each: (each.applied_us, each.action_id))
            items = [item for action in mine if (item := action.item) is not None]
            told = [item.control_id for item in items]
            if told != feature.told:
                feature.told = told
                feature.control_revision = max(feature.control_revision + 1, self._place.now_us)
                revision, now_us = feature.control_revision, self._place.now_us
                self._say(control_output(self.book.project, name, items, revision, now_us))

    def _publish_charter(self, feature: str, text: str, *, own: bool) -> int:
        revision = self._charters.of(feature)[-1].revision + 1
        declared = again(self.book.project, feature, text, revision, self._place.now_us)
        declared.own = own
        self._charters.keep(feature, declared)
        self._say(charter_output(self.book.project, feature, declared))
        return revision

    def _arms(self, name: str, default: str, arms: Sequence[KnownArm]) -> None:
        feature = self.book.feature(name)
        known = {arm.name: arm for arm in feature.arms}
        for arm in arms:
            old = known.get(arm.name)
            if old is not None and old.model == arm.model:
                arm.mean, arm.price = old.mean, old.price
        feature.default, feature.arms = default, list(arms)

    def _escalate(self, alert: Alert, kind: str, title: str, detail: str) -> None:
        if kind not in alert.escalations:
            alert.escalations.append(kind)
            self._tell(alert, kind, "firing", title=title, detail=detail)

    def _tell(self, alert: Alert, kind: str, state: str, *, title: str, detail: str) -> None:
        now_us = self._place.now_us
        self._say(told_person(self.book.project, alert, kind, state, now_us, title=title, detail=detail))

    def _say(self, output: Output) -> None:
        self._outputs.append(output)

    def _next_id(self) -> str:
        self._made += 1
        return event_id("action", self.book.project, self._place.partition, self._place.offset, self._made)

    def _open_on(self, feature: str, kind: str | None = None) -> list[Open]:
        found = [each for _, each in sorted(self.book.open.items()) if each.feature == feature]
        return [each for each in found if kind in (None, each.kind)]

    def _awaits_charter(self, alert: Alert) -> bool:
        """Whether an alert was noticed under a charter that is still to be read. Topics are read side by side, and the
        change that caused an alert must be known before it is judged what to do about it."""
        known = self._charters.of(alert.feature) if alert.charter else []
        return alert.charter > (known[-1].revision if known else 0)

    def _find(self, alert_id: str, feature: str) -> Alert | None:
        return self.book.alerts.get(f"{alert_id}\x1f{feature}")

    def _all_resolved(self, action: Open) -> bool:
        found = [self._find(alert_id, action.feature) for alert_id in action.cause]
        return not any(alert.firing for alert in found if alert is not None)

    def _elsewhere(self, action: Open) -> list[Alert]:
        """Alerts of the same rule about arms of the feature that still serve. Of an arm without calls nothing is heard
        any more, whether or not it was at fault; where the others are in the same trouble it was not."""
        if action.kind != "disable":
            return []
        gone = {name for each in self._open_on(action.feature, "disable") for name in each.arms}
        serving = [arm for arm in self.book.feature(action.feature).arms if arm.name not in gone]
        found = []
        for _, alert in sorted(self.book.alerts.items()):
            if alert.firing and alert.feature == action.feature and alert.alert_id not in action.cause:
                rule = self.tree.rule_for(alert.signal)
                if rule is not None and rule.name == action.rule and any(concerns(arm, alert) for arm in serving):
                    found.append(alert)
        return found

    def _remembered_us(self) -> int:
        longest = max((max(rule.flaps.within, rule.cooldown) for rule in self.tree.rules), default=0.0)
        return max(DAY_US, int(longest * 1e6))

    def _crowded(self) -> None:
        """Forget the alert not heard of for longest when there are too many."""
        if len(self.book.alerts) > MAX_ALERTS:
            oldest = min(self.book.alerts, key=lambda key: (self.book.alerts[key].last_us, key))
            del self.book.alerts[oldest]

    def _next_due(self) -> int | None:
        due: list[int] = []
        for action in self.book.open.values():
            if not action.verified:
                due.append(action.verify_by_us)
            if action.expires_us is not None:
                due.append(action.expires_us)
            if action.resolved_us is not None:
                due.append(action.resolved_us + action.return_after_us)
        due += [f.override.expires_us for f in self.book.features.values() if f.override and f.override.expires_us]
        due += [end for each in self.book.silences.values() if (end := each["ends_at"]) > self._place.now_us]
        forget_us = int(self.tree.limits.forget_after * 1e6)
        for alert in self.book.alerts.values():
            due.append(alert.last_us + forget_us)
            if alert.firing and not alert.answered:
                due.append(self._place.now_us + (0 if self._awaits_charter(alert) else LOOK_AGAIN_US))
        return min(due, default=None)
