"""A span or log record as it was received, whichever encoding it came in, with only what the mapping looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from flywheel_ingest.items import MAX_ERRORS, MAX_KEY, FieldError
from flywheel_ingest.otlp.names import EVENT_NAME, meaning

MAX_TEXT: Final = 64 << 10
"""Longest text of an attribute that is looked at; only invocation parameters come near."""
MAX_ELEMENTS: Final = 64
"""So many elements of an array are looked at."""
MEAN_ATTRIBUTES: Final = 50
"""So many attributes a record may have in the mean, were there as many records as may be."""
MAX_EVENTS: Final = 128
"""So many events of a span are looked at."""


class Opaque(NamedTuple):
    """A value of a type that no field has (``bytes``, ``kvlist`` and the like)."""

    kind: str


Value = str | bool | int | float | tuple[str, ...] | Opaque | None
Read = Callable[[], Any]
"""Makes a value of content, of JSON's types, when it is asked for."""
MAX_NESTING: Final = 32
"""What is nested deeper in a value of content is left out."""


@dataclass(slots=True)
class Attributes:
    """The attributes that the mapping knows; of the others whether one is of GenAI, and how many held content, with how
    to read it. ``large`` of these were too large to be read."""

    values: dict[str, Value] = field(default_factory=dict)
    genai: bool = False
    content: int = 0
    large: int = 0
    said: dict[str, Read] = field(default_factory=dict)
    bad: list[FieldError] = field(default_factory=list)

    def put(self, key: str, read: Callable[[], Value], whole: Read) -> None:
        """Keep a known attribute, the first of its name. ``read`` makes its value and is called for known ones only;
        ``whole`` is kept for content."""
        if len(key) > MAX_KEY:
            return  # no known name is as long, and what is remembered of names must stay small
        known, content, genai = meaning(key)
        self.genai |= genai
        if content:
            self.content += 1
            self.said.setdefault(key, whole)
        elif known and key not in self.values:
            self.values[key] = read()

    def spoiled(self, key: str, message: str) -> None:
        """Note an attribute that could not be read."""
        if len(self.bad) < MAX_ERRORS:
            self.bad.append(FieldError(key[:MAX_KEY] or "attributes", message))


class Event(NamedTuple):
    """An event of a span; ``time_ns`` since the epoch, 0 when not given."""

    name: str
    time_ns: int
    attributes: Attributes


class Span(NamedTuple):
    """A span. Ids as received; times in nanoseconds since the epoch, 0 when not given; ``status`` 0 unset, 1 ok, 2
    error."""

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    name: str
    start_ns: int
    end_ns: int
    status: int
    attributes: Attributes
    events: tuple[Event, ...]


class Log(NamedTuple):
    """A log record; ``sampled`` when its trace flags say that the span it belongs to was recorded."""

    trace_id: bytes
    span_id: bytes
    sampled: bool
    time_ns: int
    event_name: str
    attributes: Attributes

    @property
    def name(self) -> str:
        """What the event is called; before 1.27 an attribute said it."""
        return self.event_name or str(self.attributes.values.get(EVENT_NAME, ""))


class Unreadable(NamedTuple):
    """Stands for a record whose encoding cannot be read, with the fields that could not."""

    errors: tuple[FieldError, ...]


class Entry(NamedTuple):
    """One record of a request: where it stands there, its resource and its scope (the instrumentation library)."""

    path: str
    resource: Attributes
    scope: str
    record: Span | Log | Unreadable


class BodyUndecodable(ValueError):
    """A body whose records cannot be told apart; the message never holds a value."""


class TooManyRecords(ValueError):
    """A request above the limit."""

    def __init__(self, most: int) -> None:
        super().__init__(f"has more than {most} records, or what is said in them; export smaller batches")


class Counted:
    """Counts the records of a request, the groups that they come in and the attributes that they hold, so that what a
    request costs is bounded by more than its bytes: an empty attribute takes two."""

    def __init__(self, max_records: int) -> None:
        self._max_records = max_records
        self._records = 0
        self._groups = 0
        self._attributes = 0

    def record(self) -> None:
        """Count a record. Raises ``TooManyRecords``."""
        self._records += 1
        if self._records > self._max_records:
            raise TooManyRecords(self._max_records)

    def group(self) -> None:
        """Count a resource or a scope. Raises ``TooManyRecords`` above two for each record that there may be."""
        self._groups += 1
        if self._groups > 2 * self._max_records:
            raise TooManyRecords(self._max_records)

    def attributes(self, count: int) -> None:
        """Count attributes. Raises ``TooManyRecords`` above ``MEAN_ATTRIBUTES`` for each record that there may be."""
        self._attributes += count
        if self._attributes > MEAN_ATTRIBUTES * self._max_records:
            raise TooManyRecords(self._max_records)


def text_tuple(elements: Iterable[object]) -> tuple[str, ...]:
    """The elements of an array that are texts and not empty, at most ``MAX_ELEMENTS`` of them."""
    found: list[str] = []
    for element in elements:
        if isinstance(element, str) and element:
            found.append(element[:MAX_TEXT])
        if len(found) == MAX_ELEMENTS:
            break
    return tuple(found)
