"""A shard's state: a view is a dictionary on top of what is stored, and a commit is all or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.stream import Fatal, Outgoing, Revoked, ShardState, TopicPartition
from flywheel.stream.outbox import pack, unpack

KEYS = st.text(st.sampled_from("abc"), max_size=3)
WRITES = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=4)), max_size=12)


def commit(state: ShardState, writes: list[tuple[str, bytes | None]], **more: object) -> None:
    view = state.view()
    for key, value in writes:
        if value is None:
            view.delete("t", key)
        else:
            view.put("t", key, value)
    given = {"offsets": {}, "marks": {}, "emitted": state.emitted, "outbox": None} | more
    state.commit(view, **given)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(stored=WRITES, written=WRITES, start=KEYS, stop=st.none() | KEYS, limit=st.none() | st.integers(0, 5))
def test_a_view_is_a_dictionary_over_what_is_stored(
    stored: list[tuple[str, bytes | None]],
    written: list[tuple[str, bytes | None]],
    start: str,
    stop: str | None,
    limit: int | None,
) -> None:
    state = ShardState(None)
    commit(state, stored)
    view, model = state.view(), dict(stored)
    for key, value in written:
        model[key] = value
        view.delete("t", key) if value is None else view.put("t", key, value)
    alive = {k: v for k, v in model.items() if v is not None}
    assert {k: view.get("t", k) for k in model} == model
    assert view.get_many("t", [*model, "zzz"]) == alive
    expected = [(k, alive[k]) for k in sorted(alive) if k >= start and (stop is None or k < stop)]
    assert list(view.scan("t", start, stop, limit)) == expected[:limit]
    assert view.get("other", "a") is None
    state.close()


def test_a_scan_reads_no_further_than_it_was_asked() -> None:
    """A service that looks at what is due, batch after batch, must not pay for all that is not due yet."""
    state, steps = ShardState(None), 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    costs = []
    for waiting in (10, 20_000):
        commit(state, [(f"{number:08d}", b"") for number in range(waiting)])
        steps = 0
        state._db.set_progress_handler(count, 1)
        assert len(list(state.view().scan("t", "", "00000003"))) == 3
        state._db.set_progress_handler(None, 0)
        costs.append(steps)
    assert costs[0] == costs[1] > 0
    state.close()


@settings(max_examples=60, deadline=None)
@given(writes=WRITES, cut=st.integers(0, 12))
def test_the_digest_does_not_depend_on_how_writes_were_cut_into_batches(
    writes: list[tuple[str, bytes | None]], cut: int
) -> None:
    once, twice = ShardState(None), ShardState(None)
    commit(once, writes)
    commit(twice, writes[:cut])
    commit(twice, writes[cut:])
    assert once.digest() == twice.digest()


def test_everything_a_batch_did_is_there_after_reopening(tmp_path: Path) -> None:
    path, partition = tmp_path / "s/0.sqlite", TopicPartition("llm-calls", 0)
    state = ShardState(path)
    commit(state, [("a", b"1")], offsets={partition: 7}, marks={("t", "x/0"): 3}, emitted=2, outbox=b"box")
    digest, incarnation = state.digest(), state.incarnation
    state.close()
    again = ShardState(path)
    assert (again.digest(), again.offsets, again.marks, again.emitted) == (digest, {partition: 7}, {("t", "x/0"): 3}, 2)
    assert [blob for _, blob in again.outbox()] == [b"box"]
    assert again.incarnation != incarnation, "what this opening emits is told apart from what the last one did"
    again.sent(again.outbox()[0][0])
    assert again.outbox() == []


def test_a_batch_that_cannot_be_committed_leaves_nothing(tmp_path: Path) -> None:
    state = ShardState(tmp_path / "0.sqlite")
    commit(state, [("a", b"1")])
    digest = state.digest()
    with pytest.raises(Exception, match="bind"):
        commit(state, [("b", b"2")], offsets={TopicPartition("t", 0): object()})
    assert state.digest() == digest
    assert state.offsets == {}


def test_an_owner_that_lost_its_state_to_another_writes_nothing(tmp_path: Path) -> None:
    frozen = ShardState(tmp_path / "0.sqlite")
    commit(frozen, [("a", b"frozen")], outbox=b"box")
    [(seq, _)] = frozen.outbox()
    owner = ShardState(tmp_path / "0.sqlite")
    owner.sent(seq)
    commit(owner, [("a", b"owner")], outbox=b"newer")
    with pytest.raises(Revoked):
        commit(frozen, [("a", b"late")], offsets={TopicPartition("t", 0): 9})
    frozen.sent(99)
    assert [blob for _, blob in owner.outbox()] == [b"newer"], "a late acknowledgement forgets nobody else's records"
    again = ShardState(tmp_path / "0.sqlite")
    assert (again.view().get("t", "a"), again.offsets) == (b"owner", {})


def test_a_full_disk_ends_the_process_and_leaves_the_state_as_it_was(tmp_path: Path) -> None:
    state = ShardState(tmp_path / "0.sqlite")
    commit(state, [("a", b"1")])
    digest = state.digest()
    (pages,) = state._db.execute("PRAGMA page_count").fetchone()
    state._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(Fatal, match="full"):
        commit(state, [("b", b"2" * 100_000)], offsets={TopicPartition("t", 0): 1})
    assert (state.digest(), state.offsets) == (digest, {})
    state._db.execute("PRAGMA max_page_count=100000")
    commit(state, [("b", b"2" * 100_000)], offsets={TopicPartition("t", 0): 1})
    assert ShardState(tmp_path / "0.sqlite").offsets == {TopicPartition("t", 0): 1}


def test_marks_of_long_gone_openings_are_forgotten() -> None:
    state = ShardState(None)
    for opening in range(30):
        commit(state, [], marks={("t", f"bandit/0/{opening}"): opening, ("t", "other/0/x"): opening})
    assert sorted(state.marks) == [("t", f"bandit/0/{n}") for n in range(22, 30)] + [("t", "other/0/x")]
    assert state.marks == {(t, s): m for t, s, m in state._db.execute("SELECT topic, source, mark FROM marks")}


def test_a_state_made_anew_is_told_apart() -> None:
    assert ShardState(None).incarnation != ShardState(None).incarnation


OUTGOING = st.builds(
    Outgoing,
    topic=st.text(max_size=5),
    key=st.none() | st.binary(max_size=4),
    value=st.none() | st.binary(max_size=9),
    headers=st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=3)), max_size=2),
    partition_key=st.none() | st.binary(max_size=3),
)


@given(st.lists(OUTGOING, max_size=4))
def test_the_outbox_keeps_records_exactly(records: list[Outgoing]) -> None:
    assert unpack(pack(records)) == records
