"""A broker for simulations: groups with heartbeats and sessions, and a network that loses requests and answers.

The logs are those of `flywheel.stream.MemoryBus`. What differs: each member learns of a rebalance by itself and at its
own time, while it goes on working; a member that is dead or frozen is put out of its group when its session ends; a
send may arrive in part, or whole without its answer, or when nobody counts on it any more.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, replace
from random import Random

from flywheel.stream import MemoryBus, Outgoing, RawRecord, TopicPartition, Unavailable
from flywheel.stream.memory import Positions
from flywheel.stream.ports import Listener
from flywheel.testkit.simulation.loop import Dead, Process

SESSION_S, HEARTBEAT_S = 10.0, 2.0
Records = Mapping[TopicPartition, Sequence[RawRecord]]


@dataclass(frozen=True, slots=True)
class Weather:
    """How often (0 to 1) a request does not arrive, an answer is lost, a question fails; longest way in seconds."""

    request_lost: float = 0.0
    answer_lost: float = 0.0
    away: float = 0.0
    way_s: float = 0.01


class Broker:
    """Logs and groups, under a weather."""

    def __init__(self, loop: asyncio.AbstractEventLoop, chance: Random, *, partitions: int, start_ms: int) -> None:
        self._loop, self._chance = loop, chance
        self.logs = MemoryBus(lambda: start_ms + int(loop.time() * 1000), partitions=partitions)
        self.weather = Weather()
        self.groups: dict[str, Group] = defaultdict(Group)
        self._news: list[asyncio.Event] = []
        self.rebalances = self.repeats = 0

    def client(self, process: Process) -> Client:
        """What one process has of the broker."""
        return Client(self, process)

    def calm(self) -> None:
        """From now on nothing is lost."""
        self.weather = replace(self.weather, request_lost=0.0, answer_lost=0.0, away=0.0)

    def append(self, records: Iterable[Outgoing]) -> None:
        """Put records at the end of their partitions and wake who waits for them."""
        for record in records:
            self.logs.append(record)
        for event in self._news:
            event.set()

    def end_session(self, process: Process) -> None:
        """Put the members of a process that is not heard of out of their groups when their sessions end."""

        def end() -> None:
            if process.frozen or not process.alive:
                for group in self.groups.values():
                    group.remove([m for m in group.members if m.process is process])

        self._loop.call_later(SESSION_S, end, context=Context())  # nobody's step: the process is dead

    def roll(self, share: float) -> bool:
        """Whether something happens that happens so often."""
        return share > 0.0 and self._chance.random() < share

    async def way(self, process: Process) -> None:
        """The time of one way between a process and the broker."""
        if process.gone:
            raise Dead
        await asyncio.sleep(self._chance.uniform(0.0, self.weather.way_s))

    async def ask(self, process: Process, what: str) -> None:
        """A question and its answer. Raises Unavailable."""
        await self.way(process)
        if self.roll(self.weather.away):
            raise Unavailable(f"{what}: no answer", 0.0)

    async def news(self, seconds: float) -> None:
        """Wait until something is appended, but not longer than this."""
        event = asyncio.Event()
        self._news.append(event)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await event.wait()
        finally:
            self._news.remove(event)

    def later(self, records: Sequence[Outgoing]) -> None:
        """What was on the way when its sender gave up arrives, or does not."""
        if self.roll(0.5):
            self.repeats += len(records)
            self._loop.call_later(self._chance.uniform(0.0, 3.0), self.append, records, context=Context())


class Group:
    """Who is in a group, which generation it is at, and what it was told."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.told: dict[TopicPartition, int] = {}
        self.generation = 0
        self._joined: dict[Member, asyncio.Future[list[TopicPartition] | None]] = {}

    def add(self, member: Member) -> None:
        """A new member: everybody has to join again."""
        self.members.append(member)
        self._begin()

    def remove(self, members: Iterable[Member]) -> None:
        """Members that left or were not heard of."""
        gone = [m for m in members if m in self.members]
        if gone:
            self.members = [m for m in self.members if m not in gone]
            self._begin()
            for member in gone:
                member.called.set()

    def _begin(self) -> None:
        self.generation += 1
        joined, self._joined = self._joined, {}
        for future in joined.values():
            if not future.done():
                future.set_result(None)
        for member in self.members:
            member.called.set()

    async def join(self, member: Member) -> list[TopicPartition] | None:
        """The member's partitions once all have joined this generation; None when it was overtaken by another."""
        future: asyncio.Future[list[TopicPartition] | None] = asyncio.get_running_loop().create_future()
        self._joined[member] = future
        if all(m in self._joined for m in self.members):
            joined, self._joined = self._joined, {}
            for rank, each in enumerate(self.members):
                if not joined[each].done():
                    joined[each].set_result(each.share(rank, len(self.members)))
        return await future


class Client:
    """See `flywheel.stream.ports.Bus`."""

    def __init__(self, broker: Broker, process: Process) -> None:
        self._broker, self._process = broker, process

    def consumer(self, *, topics: Sequence[str], group: str | None, listener: Listener | None = None) -> Member:
        """See the port."""
        found = None if group is None else self._broker.groups[group]
        return Member(self._broker, self._process, topics, found, listener)

    def producer(self) -> Sender:
        """See the port."""
        return Sender(self._broker, self._process)

    async def partitions(self, topic: str) -> int:
        """See the port."""
        await self._broker.ask(self._process, "partitions")
        return len(self._broker.logs.partitions_of(topic))

    async def ensure_topics(self, topics: Sequence[str]) -> None:
        """See the port."""
        for topic in topics:
            self._broker.logs.partitions_of(topic)


class Sender:
    """See `flywheel.stream.ports.Producer`."""

    def __init__(self, broker: Broker, process: Process) -> None:
        self._broker, self._process = broker, process

    async def start(self) -> None:
        """See the port."""
        await self._broker.ask(self._process, "connecting")

    async def stop(self) -> None:
        """Nothing to disconnect from."""

    async def abandon(self) -> None:
        """What is on the way can't be called back."""

    async def send_many(self, records: Sequence[Outgoing]) -> None:
        """See the port: the records arrive one after another, as far as they do."""
        broker, weather = self._broker, self._broker.weather
        await broker.way(self._process)
        if broker.roll(weather.request_lost):
            arrives = broker._chance.randrange(len(records) + 1)
            broker.append(records[:arrives])
            broker.later(records[arrives:])
            raise Unavailable("producing: cut off", 0.0)
        for record in records:
            broker.append([record])
            await asyncio.sleep(0)
        await broker.way(self._process)
        if broker.roll(weather.answer_lost):
            broker.repeats += len(records)
            raise Unavailable("producing: no answer", 0.0)


class Member(Positions):
    """See `flywheel.stream.ports.Consumer`. A task of its own keeps up with the group."""

    def __init__(
        self, broker: Broker, process: Process, topics: Sequence[str], group: Group | None, listener: Listener | None
    ) -> None:
        super().__init__()
        self.process, self._broker, self._topics = process, broker, tuple(topics)
        self._group, self._listener = group, listener
        self._generation = 0
        self._following: asyncio.Task[None] | None = None
        self.called = asyncio.Event()

    async def start(self) -> None:
        """Join the group, or take everything."""
        await self._broker.ask(self.process, "joining")
        if self._group is None:
            self._next = {p: 0 for topic in self._topics for p in self._broker.logs.partitions_of(topic)}
            return
        self._group.add(self)
        self._following = asyncio.create_task(self._follow(self._group))

    async def stop(self) -> None:
        """Leave."""
        if self._following is not None:
            self._following.cancel()
        if self._group is not None:
            self._group.remove([self])
        self._next.clear()

    def share(self, rank: int, members: int) -> list[TopicPartition]:
        """The partitions of a member by its rank: the same numbers of every topic."""
        mine: list[TopicPartition] = []
        for topic in self._topics:
            partitions = self._broker.logs.partitions_of(topic)
            size, extra = divmod(len(partitions), members)
            start = rank * size + min(rank, extra)
            mine += partitions[start : start + size + (rank < extra)]
        return mine

    async def _follow(self, group: Group) -> None:
        while True:
            await self.called.wait()
            self.called.clear()
            await asyncio.sleep(self._broker._chance.uniform(0.0, HEARTBEAT_S))
            if self in group.members and self._generation == group.generation:
                continue
            if self._next and self._listener is not None:
                await self._listener.revoked(sorted(self._next))
            self._next.clear()
            self._paused.clear()
            if self not in group.members:
                group.add(self)
            generation = group.generation
            mine = await group.join(self)
            if mine is None:
                self.called.set()
                continue
            self._broker.rebalances += 1
            self._generation = generation
            self._next = {p: group.told.get(p, 0) for p in mine}
            if self._listener is not None:
                await self._listener.assigned(sorted(mine))

    async def poll(self, *, max_records: int, timeout_ms: int) -> Records:
        """See the port: some of the records of some partitions, in any order of partitions."""
        await self._broker.ask(self.process, "fetching")
        found = self._fetch(max_records)
        if not found:
            await self._broker.news(timeout_ms / 1000)
            found = self._fetch(max_records)
        return found

    def _fetch(self, max_records: int) -> Records:
        chance, found = self._broker._chance, {}
        ready = [p for p in sorted(self._next) if p not in self._paused]
        chance.shuffle(ready)
        for partition in ready:
            log = self._broker.logs.log(partition)[self._next[partition] :]
            if log and max_records:
                taken = log[: chance.randint(1, min(len(log), max_records))]
                found[partition] = list(taken)
                self._next[partition] = taken[-1].offset + 1
                max_records -= len(taken)
        return found

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See the port; who is out of the group is refused."""
        await self._broker.ask(self.process, "committing")
        if self._group is not None:
            if self not in self._group.members or self._generation != self._group.generation:
                raise Unavailable("committing: not of this generation", 0.0)
            self._group.told.update(offsets)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """See the port."""
        await self._broker.ask(self.process, "ends")
        return {p: len(self._broker.logs.log(p)) for p in partitions}

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """See the port."""
        await self._broker.ask(self.process, "beginnings")
        return dict.fromkeys(partitions, 0)
