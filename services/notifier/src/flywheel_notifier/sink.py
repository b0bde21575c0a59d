"""The notifier as a step of the runner: reports, words and silences into the notebook, with their positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flywheel.control import ControlInvalid, Silence
from flywheel.stream import Event, Hold, RawRecord, Reject, Skip, TopicPartition, Verdict
from flywheel_notifier.core.standing import Ack, Standing, acknowledged, key_of, problem_of, taken
from flywheel_notifier.notebook import Notebook

INPUTS = ("alerts", "silences")


@dataclass(slots=True)
class _Batch:
    """What a batch changes, before it is kept."""

    alerts: dict[str, Standing] = field(default_factory=dict)
    acks: dict[str, Ack] = field(default_factory=dict)
    silences: dict[str, Silence] = field(default_factory=dict)
    positions: dict[TopicPartition, int] = field(default_factory=dict)


class NotifierSink:
    """Keeps how alerts stand; nothing is sent here.

    Args:
        opened: opens the notebook, at first use.
        settle_us: so long an alert must stay resolved to be a new one when it fires again.
    """

    raw = False

    def __init__(self, opened: Callable[[], Notebook], *, settle_us: int) -> None:
        self._opened, self._settle_us = opened, settle_us
        self._notebook: Notebook | None = None

    @property
    def notebook(self) -> Notebook:
        """The notebook, opened. Raises Fatal."""
        if self._notebook is None:
            self._notebook = self._opened()
        return self._notebook

    async def positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The next offset to read of each partition that was read."""
        known = self.notebook.positions
        return {each: known[each] for each in partitions if each in known}

    async def write(self, records: Sequence[Event | RawRecord]) -> Mapping[int, Verdict | Hold]:
        """Keep what the records change; with a `Reject` among the verdicts nothing is kept."""
        batch, verdicts = _Batch(), dict[int, Verdict | Hold]()
        for index, record in enumerate(records):
            assert isinstance(record, Event), "this sink takes decoded records"
            verdict = self._take(record, batch)
            if verdict is not None:
                verdicts[index] = verdict
            batch.positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
        if not any(isinstance(verdict, Reject) for verdict in verdicts.values()):
            self.notebook.take(
                alerts=batch.alerts, acks=batch.acks, silences=batch.silences, positions=batch.positions
            )  # fmt: skip
        return verdicts

    def close(self) -> None:
        """Close the notebook, if it was opened; the next use opens it again."""
        if self._notebook is not None:
            self._notebook.close()
            self._notebook = None

    def _take(self, record: Event, batch: _Batch) -> Verdict | None:
        if record.event == "silence":
            return self._silence(record, batch)
        if record.event != "alert":
            return Skip("not_an_input")
        problem = problem_of(record.value)
        if problem is not None:
            return problem
        key = key_of(record.value)
        if record.value["state"] == "acknowledged":
            said, known = acknowledged(record.value), batch.acks.get(key, self.notebook.acks.get(key))
            if known is not None and said.at_us < known.at_us:
                return Skip("older")
            batch.acks[key] = said
            return None
        before = batch.alerts.get(key, self.notebook.alerts.get(key))
        found = taken(before, record.value, record.raw.timestamp_ms * 1000, self._settle_us)
        if isinstance(found, Skip):
            return found
        batch.alerts[key] = found
        return None

    def _silence(self, record: Event, batch: _Batch) -> Verdict | None:
        try:
            said = Silence.from_event(record.value)
        except ControlInvalid as error:
            return Reject("silence_invalid", error.field, error.message)
        known = batch.silences.get(said.key, self.notebook.silences.get(said.key))
        if known is not None and said.revision <= known.revision:
            return Skip("older")
        batch.silences[said.key] = said
        return None
