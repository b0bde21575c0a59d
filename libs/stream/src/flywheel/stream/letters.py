"""Dead letters as cases: which letters speak of one record, where each stands, and what a replay sends. Pure.

A record's case is named by where it stood first and by its bytes. A replay puts it back with headers that carry that
place and the count; the letter that follows a new refusal copies them in its ``headers``, so the count goes on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

from flywheel.events import event_id
from flywheel.stream.kafka_producer import partition_of
from flywheel.stream.records import LETTER_BYTES, SEQUENCE, SOURCE
from flywheel.stream.types import Outgoing

ORIGIN, LETTER, REPLAYS = "flywheel_replay_origin", "flywheel_replay_letter", "flywheel_replay_count"
OURS = frozenset({SOURCE, SEQUENCE, ORIGIN, LETTER, REPLAYS})
LINEAGE_PREFIX = "replay/"
MOST_COUNTED = 1_000_000
HEADER_BYTES = LETTER_BYTES // 4 - 1024
"""Longest headers put back: past a quarter of ``LETTER_BYTES`` the next letter would carry none, not even the count."""

State = Literal["open", "replayed", "refused again", "dropped"]
Policy = Literal["stop", "reinsert", "drop"]


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: its event's value, and what follows from it.

    Attributes:
        case: id of the refused record, the same for every service and every replay of it.
        replays: how often the record had been replayed when it was refused.
    """

    value: Mapping[str, Any]
    case: str
    replays: int

    @property
    def id(self) -> str:
        """Its event id; a repeat after a restart has the same."""
        return str(self.value["event_id"])

    @property
    def service(self) -> str:
        """Who refused the record."""
        return str(self.value["service"])

    @property
    def topic(self) -> str:
        """Where the record came from."""
        return str(self.value["source_topic"])


class Standing(NamedTuple):
    """Where a letter stands; ``replays`` counts those of its record, by whatever letter."""

    letter: Letter
    state: State
    replays: int


class Move(NamedTuple):
    """What to do with one record: ``letters`` are all open ones of its case, ``replays`` the count after it.

    ``action``: send, drop, leave (``why`` says what for), or halt, after which nothing more is done.
    """

    action: Literal["send", "drop", "leave", "halt"]
    letters: Sequence[Letter]
    replays: int
    why: str = ""


def read_letter(value: Mapping[str, Any]) -> Letter:
    """A letter from its decoded event. Headers are anybody's: what does not parse counts as not replayed.

    The record's bytes are part of the case's name, so that forged headers cannot put one record into another's case.
    """
    headers: Mapping[str, bytes] = value["headers"]
    replays, origin = _count(headers.get(REPLAYS)), headers.get(ORIGIN)
    place = f"{value['source_partition']}/{value['source_offset']}"
    if replays and origin is not None:
        place = origin.decode(errors="replace")
    else:
        replays = 0
    content = blake2b(value["value"] or b"", digest_size=16).hexdigest()
    return Letter(value, event_id("dead_letter_case", value["source_topic"], place, content), replays)


def standings(letters: Iterable[Letter], actions: Iterable[Mapping[str, Any]]) -> list[Standing]:
    """Every letter once, oldest first, with where it stands after these actions (values of ``dead_letter_action``)."""
    unique = {letter.id: letter for letter in letters}
    noted: dict[str, int] = defaultdict(int)
    dropped: set[str] = set()
    for action in actions:
        if action["action"] == "DROPPED":
            dropped.add(action["letter_id"])
        elif action["action"] == "REPLAYED":
            noted[action["case_id"]] = max(noted[action["case_id"]], action["replays"])
    newest: dict[tuple[str, str], int] = defaultdict(int)
    for letter in unique.values():
        newest[letter.case, letter.service] = max(newest[letter.case, letter.service], letter.replays)
    by_case: dict[str, int] = defaultdict(int)
    for letter in unique.values():
        by_case[letter.case] = max(by_case[letter.case], letter.replays, noted[letter.case])
    found = [
        Standing(letter, _state(letter, newest[letter.case, letter.service], by_case[letter.case], dropped), count)
        for letter in unique.values()
        for count in [by_case[letter.case]]
    ]
    return sorted(found, key=lambda s: (s.letter.value["occurred_at"], s.letter.id))


def _state(letter: Letter, newest: int, replays: int, dropped: set[str]) -> State:
    if letter.id in dropped:
        return "dropped"
    if newest > letter.replays:
        return "refused again"
    return "replayed" if replays > letter.replays else "open"


def plan(chosen: Sequence[Standing], *, policy: Policy, most: int) -> list[Move]:
    """What to do with the open letters among ``chosen``: a record once, though several services refused it.

    Args:
        policy: for a record refused again after a replay: ``stop`` halts there, ``reinsert`` sends it again up to
            ``most`` times in all, ``drop`` settles its letters.
    """
    cases: dict[str, list[Standing]] = defaultdict(list)
    for standing in chosen:
        if standing.state == "open":
            cases[standing.letter.case].append(standing)
    moves: list[Move] = []
    for standing_together in cases.values():
        letters, replays = [s.letter for s in standing_together], standing_together[0].replays
        if letters[0].value["value"] is None:
            moves.append(Move("leave", letters, replays, "it carries no value to put back"))
        elif replays and policy == "drop":
            moves.append(Move("drop", letters, replays, f"refused again after {replays} replays"))
        elif replays >= most:
            moves.append(Move("leave", letters, replays, f"replayed {replays} times already, {most} is the most"))
        elif replays and policy == "stop":
            moves.append(Move("halt", letters, replays, f"refused again after {replays} replays"))
            break
        else:
            moves.append(Move("send", letters, replays + 1))
    return moves


def replayed_record(move: Move, partitions: int) -> Outgoing:
    """The record as it was, for its own topic and partition, with headers that say whence.

    Its old lineage must go: the runner remembers having taken that number, refused or not, and would pass the record
    over as a repeat. In its place stands a lineage of the case, numbered by the count. So a replay that is sent twice
    (a second run, a kill before the note) is a repeat to the runner, and the next replay is not. The event id stays,
    by which sinks know what they already hold. Everything else stays, trace context included.
    """
    letter = move.letters[0]
    value = letter.value
    kept = [(name, data) for name, data in value["headers"].items() if name not in OURS]
    if sum(len(data) for _, data in kept) > HEADER_BYTES:
        kept = []
    headers = value["headers"]
    first = _count(headers.get(REPLAYS)) == 0 or ORIGIN not in headers
    origin = f"{value['source_partition']}/{value['source_offset']}".encode() if first else headers[ORIGIN]
    kept += [
        (ORIGIN, origin),
        (LETTER, letter.id.encode()),
        (REPLAYS, b"%d" % move.replays),
        # The runner looks for these two at the end.
        (SOURCE, f"{LINEAGE_PREFIX}{letter.case}".encode()),
        (SEQUENCE, b"%d" % move.replays),
    ]
    return Outgoing(letter.topic, value["key"], value["value"], kept, _chooser(value, partitions))


def _chooser(value: Mapping[str, Any], partitions: int) -> bytes | None:
    """A partition key that leads to the record's own partition, which its key need not (it may have had a chooser)."""
    wanted = value["source_partition"]
    if wanted >= partitions or partition_of(value["key"] or b"", partitions) == wanted:
        return None
    number = 0
    while partition_of(b"%d" % number, partitions) != wanted:
        number += 1
    return b"%d" % number


def note(letter: Letter, action: Literal["REPLAYED", "DROPPED"], replays: int, *, now_us: int) -> dict[str, Any]:
    """A ``dead_letter_action``: the same act on the same letter has the same id, whenever it is noted."""
    return {
        "event_id": event_id("dead_letter_action", letter.id, action, replays),
        "project": letter.value["project"],
        "occurred_at": now_us,
        "letter_id": letter.id,
        "case_id": letter.case,
        "action": action,
        "replays": replays,
        "source_topic": letter.topic,
    }


def _count(header: bytes | None) -> int:
    if header is None or len(header) > 7 or not header.isdigit():
        return 0
    return min(int(header), MOST_COUNTED)
