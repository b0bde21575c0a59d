"""Dead letters as cases, without a broker: counts that go on, records that go back once, headers that lie."""

from __future__ import annotations

from typing import Any

import pytest

from flywheel.events import Codec, LocalRegistry, topics
from flywheel.stream import MemoryBus, RawRecord, Reject
from flywheel.stream.letters import (
    LETTER,
    MOST_COUNTED,
    ORIGIN,
    REPLAYS,
    Letter,
    Move,
    Standing,
    note,
    plan,
    read_letter,
    replayed_record,
    standings,
)
from flywheel.stream.records import LETTER_BYTES, SEQUENCE, SOURCE, dead_letter, lineage

codec = Codec(LocalRegistry.load())
RECORD = RawRecord("llm-calls", 2, 41, 7, b"key", b"value", [("ce_id", b"e"), (SOURCE, b"up/0/x"), (SEQUENCE, b"5")])


def refused(record: RawRecord, service: str = "bandit") -> Letter:
    letter = dead_letter(codec, record, Reject("unsupported", None, "no"), service=service, version="1")
    assert letter is not None and letter.value is not None
    return read_letter(codec.decode(letter.value).value)


def sent(move: Move) -> RawRecord:
    """The replayed record as a broker gives it: further on."""
    return MemoryBus().append(replayed_record(move, 4))._replace(offset=100 + move.replays)


def noted(move: Move) -> list[dict[str, Any]]:
    return [note(letter, "REPLAYED", move.replays, now_us=1) for letter in move.letters]


def test_a_record_that_two_services_refused_goes_back_once_with_its_place_and_count() -> None:
    letters = [refused(RECORD), refused(RECORD, "recorder"), refused(RECORD)]
    (move,) = plan(standings(letters, []), policy="stop", most=3)
    assert (move.action, move.replays, len(move.letters)) == ("send", 1, 2)
    back = sent(move)
    assert (back.topic, back.partition, back.key, back.value) == ("llm-calls", 2, b"key", b"value")
    headers = dict(back.headers)
    assert len(headers) == len(back.headers)
    assert headers["ce_id"] == b"e" and headers[REPLAYS] == b"1" and headers[ORIGIN] == b"2/41"
    assert headers[LETTER].decode() == move.letters[0].id
    found = lineage(back)
    assert found is not None and found.source == f"replay/{move.letters[0].case}" and found.sequence == 1
    assert all(s.state == "replayed" for s in standings(letters, noted(move)))


def test_a_refusal_after_a_replay_is_the_same_case_and_its_policy_decides() -> None:
    (move,) = plan(standings([refused(RECORD)], []), policy="stop", most=3)
    letters = [refused(RECORD), refused(RECORD, "recorder"), refused(sent(move))]
    for actions in (noted(move), []):  # the second: killed before the note; the letter's own count says it
        found = standings(letters, actions)
        assert {(s.letter.service, s.letter.replays): s.state for s in found} == {
            ("bandit", 0): "refused again",
            ("recorder", 0): "replayed",
            ("bandit", 1): "open",
        }
        assert [m.action for m in plan(found, policy="stop", most=3)] == ["halt"]
        assert [m.action for m in plan(found, policy="drop", most=3)] == ["drop"]
        assert [m.action for m in plan(found, policy="reinsert", most=1)] == ["leave"]
        (again,) = plan(found, policy="reinsert", most=3)
        assert (again.action, again.replays) == ("send", 2)
        assert dict(sent(again).headers)[ORIGIN] == b"2/41"
    settled = standings(letters, [note(letters[2], "DROPPED", 1, now_us=1)])
    assert plan(settled, policy="reinsert", most=3) == []


def test_stop_leaves_what_comes_after_the_halt() -> None:
    (move,) = plan(standings([refused(RECORD)], []), policy="stop", most=3)
    later = refused(RECORD._replace(offset=42, timestamp_ms=9, value=b"other"))
    letters = [refused(RECORD), refused(sent(move)._replace(timestamp_ms=8)), later]
    assert [m.action for m in plan(standings(letters, noted(move)), policy="stop", most=3)] == ["halt"]
    assert [m.action for m in plan(standings(letters, noted(move)), policy="reinsert", most=3)] == ["send", "send"]


@pytest.mark.parametrize("count", [b"-1", b"1e9", b"\xff", b"", b"99999999", "٣".encode()])
def test_headers_that_lie_count_as_none_and_name_no_other_record(count: bytes) -> None:
    forged = RECORD._replace(offset=50, value=b"forged", headers=[(ORIGIN, b"2/41"), (REPLAYS, count)])
    assert refused(forged).replays == 0
    trusted = refused(forged._replace(headers=[(ORIGIN, b"2/41"), (REPLAYS, b"9")]))
    assert trusted.replays == 9 <= MOST_COUNTED
    assert trusted.case != refused(RECORD).case
    assert [s.state for s in standings([refused(RECORD), trusted], [])] == ["open", "open"]


def test_a_record_without_value_is_left_and_one_with_huge_headers_keeps_its_count() -> None:
    (move,) = plan(standings([refused(RECORD._replace(value=None))], []), policy="stop", most=3)
    assert (move.action, move.why) == ("leave", "it carries no value to put back")
    (move,) = plan(standings([refused(RECORD._replace(value=b"x" * (LETTER_BYTES + 1)))], []), policy="stop", most=3)
    assert move.action == "leave"
    large = RECORD._replace(headers=[("h", b"x" * (LETTER_BYTES // 4))])
    (move,) = plan(standings([refused(large)], []), policy="stop", most=3)
    assert move.action == "send" and refused(sent(move)).replays == 1


@pytest.mark.parametrize("partition", range(4))
def test_a_record_goes_back_to_its_own_partition_whatever_its_key(partition: int) -> None:
    letter = refused(RECORD._replace(partition=partition, key=None))
    assert sent(Move("send", [letter], 1)).partition == partition
    assert replayed_record(Move("send", [letter], 1), 1).partition_key is None, "fewer now: the key chooses"


def test_the_actions_outlive_the_letters() -> None:
    kept = topics()["dead-letter-actions"].retention_ms
    assert all(kept >= t.retention_ms for t in topics().values() if t.event == "dead_letter")
    assert isinstance(standings([refused(RECORD)], [])[0], Standing)
