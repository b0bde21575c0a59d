"""One shard: however the log is cut, repeated or interrupted, the same state and the same emitted events."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.events import Codec, LocalRegistry
from flywheel.events.examples import examples
from flywheel.stream import (
    Event,
    FoldResult,
    Outgoing,
    Output,
    RawRecord,
    Reject,
    ShardState,
    Skip,
    StateView,
    TopicPartition,
    Unavailable,
)
from flywheel.stream.shard import Identity, Shard

codec = Codec(LocalRegistry.load())
THUMB = examples("feedback")["thumb-up"]
PARTITION = TopicPartition("llm-feedback", 0)


class CountPerRequest:
    """Counts feedback per request and says each count as an evaluation; refuses a label ``bad``, skips ``dull``."""

    def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
        outputs: list[Output] = []
        verdicts: dict[int, Skip | Reject] = {}
        for index, event in enumerate(events):
            if event.value["label"] == "bad":
                verdicts[index] = Reject("invalid", "label", "bad is bad")
            elif event.value["label"] == "dull":
                verdicts[index] = Skip("dull")
            else:
                request = event.value["request_id"]
                count = int(state.get("counts", request) or b"0") + 1
                state.put("counts", request, str(count).encode())
                outputs.append(self._evaluation(request, count, event))
        return FoldResult(outputs, verdicts)

    @staticmethod
    def _evaluation(request: str, count: int, event: Event) -> Output:
        value = {"event_id": f"{request}-{count}", "project": "p", "request_id": request}
        value |= {"occurred_at": event.value["occurred_at"], "evaluator": "count", "score": count / 100}
        return Output("llm-evaluations", request, "evaluation", value)


class Collector:
    """A producer that keeps what was acknowledged; fails when told to, after having kept it or before."""

    def __init__(self) -> None:
        self.got: list[Outgoing] = []
        self.fail: str | None = None

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send_many(self, records: Sequence[Outgoing]) -> None:
        if self.fail != "before":
            self.got += records
        if self.fail is not None:
            raise Unavailable("broker away")

    def ids(self, topic: str) -> list[str]:
        return [codec.decode(r.value or b"").value["event_id"] for r in self.got if r.topic == topic]


def log_of(labels: Sequence[str | None]) -> list[RawRecord]:
    """A partition of feedback for three requests; None is a record that cannot be decoded."""
    records = []
    for offset, label in enumerate(labels):
        value = b"junk"
        if label is not None:
            fields = {"request_id": f"r{offset % 3}", "event_id": f"e{offset}", "label": label}
            value = codec.encode("feedback", THUMB | fields)
        records.append(RawRecord("llm-feedback", 0, offset, 1_700_000_000_000 + offset, b"k", value))
    return records


def shard_on(state: ShardState) -> Shard:
    return Shard(number=0, state=state, codec=codec, identity=Identity("counter", "1"))


LABELS = st.lists(st.sampled_from(["ok", "ok", "ok", "bad", "dull", None]), max_size=14)


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, data=st.data())
async def test_cuts_repeats_and_crashes_change_nothing(labels: list[str | None], data: st.DataObject) -> None:
    records, step = log_of(labels), CountPerRequest()
    calm, calm_sent = ShardState(None), Collector()
    shard = shard_on(calm)
    await shard.process(shard.sort({PARTITION: records}), step)
    await shard.flush(calm_sent)

    state, sent = ShardState(None), Collector()
    at = 0
    while at < len(records) or state.outbox():
        shard = shard_on(state)  # a fresh process over what the last one left
        back = data.draw(st.integers(0, at), label="read again from")
        upto = data.draw(st.integers(at, len(records)), label="read up to")
        batch = shard.sort({PARTITION: records[back : max(upto, at + (at < len(records)))]})
        if data.draw(st.booleans(), label="dies before the commit"):
            continue
        if batch.offsets:
            assert await shard.process(batch, step)
        sent.fail = data.draw(st.sampled_from([None, "before", "after"]), label="sending fails")
        with contextlib.suppress(Unavailable):
            await shard.flush(sent)
        at = state.offsets.get(PARTITION, 0)
    assert state.digest() == calm.digest()
    for topic in ("llm-evaluations", "llm-feedback.dlq"):
        assert list(dict.fromkeys(sent.ids(topic))) == calm_sent.ids(topic), "same events in order, repeats aside"


async def test_each_record_ends_in_exactly_one_way() -> None:
    shard, sent = shard_on(ShardState(None)), Collector()
    batch = shard.sort({PARTITION: log_of(["ok", "bad", "dull", None, "ok"])})
    assert await shard.process(batch, CountPerRequest())
    await shard.flush(sent)
    by_topic = {t: [r for r in sent.got if r.topic == t] for t in ("llm-evaluations", "llm-feedback.dlq")}
    assert len(by_topic["llm-evaluations"]) == 2
    letters = [codec.decode(r.value or b"").value for r in by_topic["llm-feedback.dlq"]]
    assert sorted((d["source_offset"], d["reason"], d["field"]) for d in letters) == [
        (1, "invalid", "label"),
        (3, "undecodable", None),
    ]
    assert next(d for d in letters if d["source_offset"] == 3)["value"] == b"junk"
    assert [v.reason for _, v in batch.verdicts if isinstance(v, Skip)] == ["dull"]
    assert shard.state.offsets == {PARTITION: 5}


async def test_an_unknown_schema_holds_its_partition_and_no_other() -> None:
    other = TopicPartition("llm-evaluations", 0)
    unknown = RawRecord("llm-feedback", 0, 1, 0, b"k", b"\x00\x00\x00\x99\x99later")
    first, *_ = log_of(["ok"])
    evaluation = codec.encode("evaluation", examples("evaluation")["golden_probe"] | {"label": "ok"})
    shard = shard_on(ShardState(None))
    batch = shard.sort({PARTITION: [first, unknown], other: [RawRecord("llm-evaluations", 0, 0, 0, b"k", evaluation)]})
    assert batch.offsets == {PARTITION: 1, other: 1}
    assert batch.unknown == {PARTITION: 1}


async def test_an_event_on_the_wrong_topic_is_refused() -> None:
    evaluation = codec.encode("evaluation", examples("evaluation")["golden_probe"])
    shard = shard_on(ShardState(None))
    batch = shard.sort({PARTITION: [RawRecord("llm-feedback", 0, 0, 0, b"k", evaluation)]})
    assert [v.reason for _, v in batch.verdicts if isinstance(v, Reject)] == ["wrong_event"]


async def test_what_another_step_emitted_twice_is_taken_once() -> None:
    source, sent = shard_on(ShardState(None)), Collector()
    await source.process(source.sort({PARTITION: log_of(["ok", "ok"])}), CountPerRequest())
    await source.flush(sent)
    repeated = [*sent.got, *sent.got]
    records = [RawRecord(r.topic, 0, offset, 0, r.key, r.value, r.headers) for offset, r in enumerate(repeated)]
    reader = shard_on(ShardState(None))
    batch = reader.sort({TopicPartition("llm-evaluations", 0): records})
    assert (len(batch.events), batch.repeats) == (2, {"llm-evaluations": 2})
    assert batch.offsets == {TopicPartition("llm-evaluations", 0): 4}


async def test_after_a_revoke_nothing_is_committed_and_nothing_sent() -> None:
    state = ShardState(None)
    shard, sent = shard_on(state), Collector()
    batch = shard.sort({PARTITION: log_of(["ok"])})
    shard.revoked = True
    assert not await shard.process(batch, CountPerRequest())
    assert (state.offsets, state.outbox()) == ({}, [])
    shard.revoked = False
    await shard.process(batch, CountPerRequest())
    shard.revoked = True
    assert await shard.flush(sent) == {}
    assert sent.got == []


async def test_a_step_that_makes_an_invalid_event_is_a_bug_not_a_dead_letter() -> None:
    class Broken:
        def fold(self, shard: int, events: Sequence[Event], state: StateView) -> FoldResult:
            return FoldResult([Output("llm-evaluations", "k", "evaluation", {"project": 3})])

    shard = shard_on(ShardState(None))
    with pytest.raises(Exception, match=r"evaluation\.project"):
        await shard.process(shard.sort({PARTITION: log_of(["ok"])}), Broken())
    assert shard.state.offsets == {}
