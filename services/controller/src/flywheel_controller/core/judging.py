"""Judging actions and taking them back: by effect, by time, by a person's word."""

from __future__ import annotations

from flywheel_controller.core.book import GIVEN_UP, MAX_DONE, Done, Open
from flywheel_controller.core.ground import Ground
from flywheel_controller.core.published import override_step, step_of


class Judging(Ground):
    """One project during a batch: what becomes of actions in force."""

    def _elapse(self) -> None:
        now_us = self._place.now_us
        for _, action in sorted(self.book.open.items()):
            if not action.verified and now_us >= action.verify_by_us:
                self._judge(action)
            if action.action_id not in self.book.open:
                continue
            if action.expires_us is not None and now_us >= action.expires_us:
                self._end(action, "expired", "its time is over")
            elif action.resolved_us is not None and now_us >= action.resolved_us + action.return_after_us:
                self._end(action, "returned", "its cause is over")
        for name, feature in sorted(self.book.features.items()):
            override = feature.override
            if override is not None and override.expires_us is not None and now_us >= override.expires_us:
                self._end_override(name, "expired")
        forgotten_us = now_us - int(self.tree.limits.forget_after * 1e6)
        for key in [key for key, alert in self.book.alerts.items() if alert.last_us <= forgotten_us]:
            del self.book.alerts[key]
        kept_us = now_us - self._remembered_us()
        self.book.done = [each for each in self.book.done if each.ended_us > kept_us][-MAX_DONE:]

    def _judge(self, action: Open) -> None:
        """Every alert it answers must be resolved or clearly nearer to where it should be, and no other arm in the same
        trouble."""
        after, failed = 0.0, self._elsewhere(action)
        for alert_id in action.cause:
            alert = self._find(alert_id, action.feature)
            if alert is None or not alert.firing:
                continue
            before, now = action.before[alert_id], alert.signal.deviation
            after = max(after, now if now is not None else 0.0)
            if before is None or now is None or now > before * (1 - action.improve):
                failed.append(alert)
        if not failed:
            self._verified(action, after, "the deviation of what still fires became smaller")
            return
        self._end(action, "undone", "it showed no effect within its window", after=after)
        for alert in failed:
            alert.answered = GIVEN_UP
            title = f"{alert.title or alert.kind}: {action.kind} did not help"
            self._escalate(alert, "failed", title, f"rule {action.rule}, action {action.action_id}: undone")

    def _verified(self, action: Open, after: float, why: str) -> None:
        action.verified = True
        self._say(step_of(self.book.project, action, "verified", self._place.now_us, reason=why, after=after))
        if action.kind == "rollback":  # it stays: there is nothing to return to
            self._close(action, "verified")

    def _end(self, action: Open, state: str, why: str, *, after: float | None = None) -> None:
        """Take an action back. A rollback is only undone by itself: in every other case somebody else has decided."""
        self._say(step_of(self.book.project, action, state, self._place.now_us, reason=why, after=after))
        if action.kind == "rollback" and state == "undone":
            text = next((e.text for e in self._charters.of(action.feature) if e.digest == action.undo_digest), None)
            if text is not None:
                self._publish_charter(action.feature, text, own=True)
        self._close(action, state)

    def _close(self, action: Open, state: str) -> None:
        del self.book.open[action.action_id]
        self.book.done.append(
            Done(action.rule, action.feature, action.arms, action.applied_us, self._place.now_us, state)
        )
        for alert in self.book.alerts.values():
            if alert.answered == action.action_id:
                alert.answered = ""

    def _end_override(self, name: str, state: str) -> None:
        feature = self.book.feature(name)
        if feature.override is not None:
            self._say(override_step(self.book.project, name, feature.override, state, self._place.now_us))
            feature.override = None
            for alert in self.book.alerts.values():
                if alert.feature == name:
                    alert.told = [what for what in alert.told if what != "override"]
