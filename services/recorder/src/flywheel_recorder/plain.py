"""The plain way to record a batch: decode in Python, insert by columns. Slower; what the fast way is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from flywheel.events import Codec, Undecodable
from flywheel_recorder.core import Refused, Row
from flywheel_recorder.rules import first_problem
from flywheel_recorder.shapes import Shape

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_POSITION: Final = ("k_topic", "k_partition", "k_offset", "k_timestamp", "k_batch_first")


@dataclass(frozen=True, slots=True)
class PlainInserter:
    """Does what `adapters.Inserter.insert` does, row by row, on rows of one month."""

    client: Any
    codec: Codec

    def insert(self, topic: str, shape: Shape, rows: Sequence[Row], firsts: Mapping[int, int]) -> dict[int, Refused]:
        """Insert the rows and return the verdicts on those that were refused, by their place in the batch."""
        refused: dict[int, Refused] = {}
        table: list[list[Any]] = []
        for row in rows:
            try:
                value = self.codec.decode(row.framed).value
            except Undecodable as error:
                refused[row.index] = Refused("undecodable", None, str(error))
                continue
            problem = first_problem(shape.rules, value, row.timestamp_ms * 1000)
            if problem is not None:
                refused[row.index] = Refused("invalid", *problem)
                continue
            position = [topic, row.partition, row.offset, _time(row.timestamp_ms * 1000), firsts[row.partition]]
            table.append(position + [_cell(column, value[column]) for column in shape.columns])
        if table:
            self.client.insert(shape.table, table, [*_POSITION, *shape.columns])
        return refused


def _cell(column: str, value: Any) -> Any:
    return _time(value) if column.endswith("_at") and isinstance(value, int) else value


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
