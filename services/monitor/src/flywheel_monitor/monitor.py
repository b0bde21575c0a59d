"""What the monitor does with a batch of records, and at every tick."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from flywheel.events import Codec
from flywheel.observe import Metrics, logger
from flywheel.stream import Output, RawRecord, Reject
from flywheel.stream.records import decode
from flywheel_monitor.core.alerting import Standing, Terms, alert_name, alert_output, ended, step
from flywheel_monitor.core.burning import SEVERITIES
from flywheel_monitor.core.fold import Place, Slot, fold
from flywheel_monitor.core.looking import burns_of, windows_of
from flywheel_monitor.core.objectives import Charters
from flywheel_monitor.core.readings import Reading, Refused, call_reading, decision_reading
from flywheel_monitor.core.series import Roster, Series
from flywheel_monitor.core.spans import MINUTE_US

NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "llm_call": (
        "project", "feature", "variant", "occurred_at", "shadow", "status", "attempt", "input_tokens",
        "output_tokens", "cost_usd", "latency_ms", "ttft_ms",
    ),
    "decision": ("project", "feature", "arm", "occurred_at", "fallback", "downgraded_from", "control"),
}  # fmt: skip
"""The fields that are read; the codec passes over the others."""
log = logger("monitor")


class Kept(Protocol):
    """What ``tables.Tables`` is to the monitor."""

    partitions: range

    def get(self, slot: Slot) -> dict[str, Any] | None: ...
    def put(self, slot: Slot, record: dict[str, Any]) -> None: ...
    def sweep(self, now_us: int) -> set[Series]: ...
    def standings(self) -> dict[str, Standing]: ...
    def stand(self, name: str, standing: Standing | None) -> None: ...
    def __len__(self) -> int: ...


class Monitor:
    """Counts records into windows and looks at the burn rates."""

    def __init__(
        self,
        *,
        kept: Kept,
        charters: Charters,
        roster: Roster,
        codec: Codec,
        metrics: Metrics,
        clock_us: Callable[[], int],
    ) -> None:
        self.kept, self.charters, self.roster, self.metrics = kept, charters, roster, metrics
        self._codec, self._clock_us = codec, clock_us
        self.newest_us = 0
        """The newest time at which the broker took a record that is counted."""
        self.read: dict[tuple[str, int], int] = {}
        """By topic and partition, the offset that is counted next."""
        self._touched: set[Series] = set()
        self._minute = 0

    def take(self, records: Sequence[RawRecord]) -> None:
        """Count a batch. What cannot be read is counted as such; the recorder dead-letters the same record."""
        placed: list[tuple[Place, Reading]] = []
        self.roster.declare(self.charters.features)
        for record in records:
            found = self._reading(record)
            if isinstance(found, Reading):
                placed.append((Place(record.topic, record.partition, record.offset), found))
                for field in found.odd:
                    self.metrics.count("monitor_odd_values_total", 1, field=field)
            else:
                self.metrics.count("monitor_records_total", 1, topic=record.topic, verdict=found.reason)
            self.newest_us = max(self.newest_us, record.timestamp_ms * 1000)
            self.read[record.topic, record.partition] = record.offset + 1
        if not placed:
            return
        folded = fold(placed, self.roster, self.kept, max(self.newest_us, self._clock_us()))
        self._touched.update(slot.series for slot in folded.slots if not slot.series.arm)
        topic = records[0].topic
        for verdict, n in (("counted", folded.counted), ("repeated", folded.repeated), ("too_late", folded.late)):
            if n:
                self.metrics.count("monitor_records_total", n, topic=topic, verdict=verdict)

    def _reading(self, record: RawRecord) -> Reading | Refused:
        event = decode(self._codec, record)
        if event is None:
            return Refused("unknown_schema", "")
        if isinstance(event, Reject):
            return Refused(event.reason, event.field or "")
        taken_us = record.timestamp_ms * 1000
        if event.event == "llm_call":
            thresholds = self.charters.thresholds(event.value["project"], event.value["feature"] or "")
            return call_reading(event.value, taken_us, thresholds)
        return decision_reading(event.value, taken_us)

    def sweep(self, now_us: int) -> None:
        """Forget what is no longer kept, and whose series it was."""
        self.roster.keep(self.kept.sweep(now_us))
        self.metrics.gauge("monitor_series", len(self.roster))
        self.metrics.gauge("monitor_windows", len(self.kept))

    def due(self, now_us: int) -> list[Series]:
        """The features whose objectives have to be looked at: all when a minute begins, for their windows have moved;
        in between those that counted something, or whose alert waits for its end."""
        touched, self._touched = self._touched, set()
        minute = now_us // MINUTE_US
        everything, self._minute = minute != self._minute, minute
        firing = {name for name, standing in self.kept.standings().items() if standing.firing}
        return sorted(
            {
                objective.series
                for objective in self.charters.objectives
                if everything
                or objective.series in touched
                or any(alert_name(objective, severity) in firing for severity in SEVERITIES)
            }
        )

    def look(self, series: Series, now_us: int, terms: Terms) -> None:
        """Judge the objectives of a feature at a time; what changed stands in the tables, not yet told."""
        standings = self.kept.standings()
        windows = windows_of(self.kept, self.kept.partitions, now_us)
        for objective in self.charters.objectives_of(series):
            burns = burns_of(windows, objective)
            for severity in SEVERITIES:
                name = alert_name(objective, severity)
                before = standings.get(name)
                own = [burning for burning in burns if burning.rule.severity == severity]
                after = step(objective, severity, own, before, now_us=now_us, terms=terms)
                if after is not before:
                    self.kept.stand(name, after)

    def end_undeclared(self, now_us: int) -> None:
        """End the alerts whose objective is no longer declared, and forget those that are told."""
        declared = {alert_name(each, severity) for each in self.charters.objectives for severity in SEVERITIES}
        for name, standing in self.kept.standings().items():
            if name in declared:
                continue
            over = ended(standing, now_us)
            if over is not None:
                self.kept.stand(name, over)
            elif standing.told:
                self.kept.stand(name, None)

    def untold(self) -> dict[str, Output]:
        """What is to be told of alerts, by their names. After a crash in between it is told again, with its ids."""
        return {
            name: alert_output(standing)
            for name, standing in self.kept.standings().items()
            if not standing.told and standing.said is not None
        }

    def told(self, outputs: Mapping[str, Output]) -> None:
        """Note that the log has these, as they are."""
        standings = self.kept.standings()
        for name, output in outputs.items():
            standing = standings.get(name)
            if standing is not None and standing.said == output.value:
                self.kept.stand(name, standing.marked_told())
            self.metrics.count(
                "monitor_alerts_total", 1, severity=output.value["severity"], state=output.value["state"]
            )  # fmt: skip
