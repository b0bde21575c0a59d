"""Sorting a batch out: groups, first offsets, ids without decoding, tokens, repeats, settling."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flywheel.events import Codec
from flywheel_recorder.core import (
    Refused,
    Row,
    deduplication_token,
    event_id_of,
    halves,
    hold_back,
    settle,
    sort_out,
    split_repeats,
    wrong_event,
)

from .conftest import Records, call_value


def nothing(_topic: str, _partition: int, _offset: int) -> bool:
    return False


def rows(*positions: tuple[int, int]) -> list[Row]:
    return [Row(i, p, o, 0, b"") for i, (p, o) in enumerate(positions)]


def test_a_batch_is_grouped_by_topic_and_schema_and_knows_its_first_offsets(codec: Codec, records: Records) -> None:
    feedback = Records(codec, "llm-feedback")
    batch = [records.call(1), records.call(0), records.call(1), feedback.raw(records.bytes_of(), 1)]
    sorted_out = sort_out(batch, nothing)
    assert [(g.topic, [r.index for r in g.rows]) for g in sorted_out.groups] == [
        ("llm-calls", [0, 1, 2]),
        ("llm-feedback", [3]),
    ]
    assert sorted_out.first_offsets == {"llm-calls": {1: 0, 0: 0}, "llm-feedback": {1: 0}}
    assert not sorted_out.refused


def test_records_without_a_frame_or_a_value_are_refused(records: Records) -> None:
    batch = sort_out([records.raw(None), records.raw(b""), records.raw(b"{}"), records.raw(b"\0\0\0\0\1")], nothing)
    assert {i: r.reason for i, r in batch.refused.items()} == {
        0: "no_value",
        1: "undecodable",
        2: "undecodable",
        3: "undecodable",
    }
    assert batch.groups == ()


def test_what_is_present_already_gets_neither_row_nor_verdict_but_counts_for_the_first_offset(records: Records) -> None:
    batch = sort_out([records.call(), records.raw(b"bad"), records.call()], lambda _t, _p, offset: offset < 2)
    assert [r.offset for r in batch.groups[0].rows] == [2]
    assert batch.first_offsets == {"llm-calls": {0: 0}}
    assert not batch.refused


@given(st.text(max_size=200))
def test_the_id_is_found_without_decoding(event_id: str) -> None:
    codec = Codec_()
    assert event_id_of(codec.encode("llm_call", call_value(event_id=event_id))) == event_id.encode()


def Codec_() -> Codec:
    from flywheel.events import LocalRegistry

    return Codec(LocalRegistry.load())


@given(st.binary(max_size=60))
def test_bytes_that_are_no_event_have_no_id_or_some_but_never_fail(body: bytes) -> None:
    found = event_id_of(b"\0\0\0\0\1" + body)
    assert found is None or found in body


def test_a_truncated_id_is_none(records: Records) -> None:
    framed = records.bytes_of()
    assert event_id_of(framed[:20]) is None
    assert event_id_of(framed[:5]) is None
    assert event_id_of(b"\0\0\0\0\1\x03ab") is None  # a negative length


def test_a_token_says_where_the_rows_are_from_and_differs_when_any_row_does() -> None:
    token = deduplication_token("llm_calls", "llm-calls", rows((1, 5), (0, 7), (1, 6)), "202611")
    assert token.startswith("llm_calls/llm-calls/0:7-7,1:5-6/202611/")
    assert token == deduplication_token("llm_calls", "llm-calls", rows((1, 5), (0, 7), (1, 6)), "202611")
    holes = [((0, 1), (0, 2), (0, 9)), ((0, 1), (0, 3), (0, 9))]
    assert len({deduplication_token("t", "t", rows(*h), "all") for h in holes}) == 2


@given(st.lists(st.sampled_from([b"a", b"b", b"c", None])))
def test_splitting_repeats_keeps_each_id_once_and_loses_nothing(ids: list[bytes | None]) -> None:
    given_rows = rows(*[(0, i) for i in range(len(ids))])
    first, repeats = split_repeats(given_rows, ids)
    assert sorted(r.offset for r in [*first, *repeats]) == list(range(len(ids)))
    kept = [ids[r.offset] for r in first if ids[r.offset] is not None]
    assert len(kept) == len(set(kept))
    assert all(ids.index(ids[r.offset]) < r.offset for r in repeats)


@given(st.integers(2, 50))
def test_halves_are_smaller_and_whole(count: int) -> None:
    left, right = halves(rows(*[(0, i) for i in range(count)]))
    assert left and right
    assert [r.offset for r in [*left, *right]] == list(range(count))


def test_settling() -> None:
    deleted, bad = Refused("no_value", None, ""), Refused("invalid", "cost_usd", "")
    held = Refused("unknown_schema", None, "", "hold")
    assert settle(deleted, compacted=False, has_dead_letters=True).outcome == "reject"
    assert settle(deleted, compacted=True, has_dead_letters=True).outcome == "skip"
    assert settle(bad, compacted=True, has_dead_letters=True).outcome == "reject"
    assert settle(bad, compacted=False, has_dead_letters=False).outcome == "skip"
    assert settle(held, compacted=False, has_dead_letters=False).outcome == "hold"
    assert wrong_event("llm_call", "decision").detail == "a decision on a topic of llm_calls"


def test_an_unknown_schema_holds_back_what_follows_in_its_partition(records: Records) -> None:
    unknown = b"\0\0\0\x27\x0f" + records.bytes_of()[5:]
    given_records = [
        records.call(0),
        records.raw(unknown, 0),
        records.raw(b"?", 0),
        records.raw(unknown, 0),
        records.call(0),
        records.raw(b"?", 1),
        records.call(1),
    ]
    batch = hold_back(given_records, sort_out(given_records, nothing), {("llm-calls", 9999)})
    assert [[row.index for row in group.rows] for group in batch.groups] == [[0, 6]]
    assert {index: verdict.outcome for index, verdict in batch.refused.items()} == {1: "hold", 5: "reject"}
