"""The shell around the core: the charters as they are read, and counting what comes out."""

from __future__ import annotations

from typing import Any

from flywheel.observe import Metrics, logger
from flywheel.stream import Output
from flywheel_bandit.core import CharterBook, charter_problem

log = logger("bandit")


class CharterShelf:
    """Holds the newest ``CharterBook`` of a compacted table; a fold takes one book per batch."""

    def __init__(self) -> None:
        self.book = CharterBook.of([])

    def update(self, key: str, charter_event: dict[str, Any] | None) -> None:
        """Take a charter event over; one that is no charter, and a removal, change nothing."""
        if charter_event is None:
            return
        problem = charter_problem(charter_event)
        if problem is not None:
            # Stage 2 reads the same record and sends it to the dead letters.
            log.warning("charter_invalid", key=key, field=problem[0], why=problem[1])
            return
        self.book = self.book.with_event(charter_event)


def count_output(metrics: Metrics, output: Output) -> None:
    """Count what comes out, by feature."""
    value = output.value
    if output.event == "outcome":
        metrics.count("outcomes_total", 1, feature=value["feature"], status=value["status"])
    elif output.event == "policy":
        metrics.count("policies_published_total", 1, feature=value["feature"])
        metrics.gauge("policy_version", value["policy_version"], feature=value["feature"])
    elif output.event == "alert":
        metrics.count("bandit_alerts_total", 1, kind=value["kind"], state=value["state"])
