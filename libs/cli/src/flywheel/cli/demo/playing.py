"""Plays an experiment through the system: decide, answer from the provider, report the call and whether it was
right."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flywheel.cli.demo.scoring import Served
from flywheel.testkit import Answer, Experiment, Phase, Query


class NotLearning(RuntimeError):
    """Outcomes were reported, and the policy did not take them in within the time allowed."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the router answered."""

    decision_id: str | None
    arm: str
    propensity: float
    policy_version: int
    fallback: bool
    reason: str


class Wheel(Protocol):
    """The running system, as the demo uses it."""

    async def decide(self, request_id: str) -> Choice:
        """Ask the router. Raises when it does not answer: the demo counts every decision."""
        ...

    async def report(self, request_id: str, choice: Choice, answer: Answer) -> None:
        """Send the call as it was recorded, and whether its answer was right as feedback."""
        ...

    async def learned(self) -> int:
        """How many outcomes the policy in force at the router stands on."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast to ask: ``per_s`` requests started a second, ``at_once`` under way together, and never more than
    ``ahead`` requests that the policy has not learned from, so that a slow machine slows the replay and not the
    learning."""

    per_s: float = 65.0
    at_once: int = 4
    ahead: int = 60
    patience_s: float = 30.0


@dataclass(slots=True)
class Progress:
    """How far the replay is; ``on_change`` is called after each request."""

    total: int
    phase: str = ""
    served: list[Served] = field(default_factory=list)
    learned: int = 0

    @property
    def lag(self) -> int:
        """Requests whose outcome the policy has not taken in yet."""
        return max(0, len(self.served) - self.learned)


@dataclass(frozen=True, slots=True)
class Played:
    """A finished replay: for each phase what was asked and how it was served, in the order of asking."""

    asked: dict[str, Sequence[Query]]
    served: dict[str, Sequence[Served]]
    seconds: float

    @property
    def all_served(self) -> list[Served]:
        return [one for phase in self.served.values() for one in phase]


def request_id(experiment: Experiment, phase: Phase, query: Query, seed: int) -> str:
    """The id of one request of one replay: the same seed gives the same ids, two phases never share one."""
    return f"{experiment.source}-{seed}-{phase.name}-{query.id}"


async def play(
    experiment: Experiment,
    wheel: Wheel,
    *,
    seed: int,
    per_phase: int | None,
    pace: Pace,
    on_change: Callable[[Progress], None],
) -> Played:
    """Play every phase in turn. Raises ``NotLearning``, or whatever the wheel raises; requests under way are then
    cancelled."""
    asked = {p.name: experiment.order(p, seed=seed, limit=per_phase) for p in experiment.phases}
    progress = Progress(total=sum(len(queries) for queries in asked.values()))
    player = _Player(experiment, wheel, seed, pace, progress, on_change)
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(player.watch())
        served = {phase.name: await player.play_phase(phase, asked[phase.name]) for phase in experiment.phases}
        watching.cancel()
    return Played(dict(asked), dict(served), time.perf_counter() - started)


@dataclass(frozen=True, slots=True)
class _Player:
    experiment: Experiment
    wheel: Wheel
    seed: int
    pace: Pace
    progress: Progress
    on_change: Callable[[Progress], None]

    async def watch(self) -> None:
        """Follow what the policy has learned."""
        while True:
            self.progress.learned = await self.wheel.learned()
            self.on_change(self.progress)
            await asyncio.sleep(0.25)

    async def play_phase(self, phase: Phase, queries: Sequence[Query]) -> list[Served]:
        self.progress.phase = phase.name
        results: dict[int, Served] = {}
        room = asyncio.Semaphore(self.pace.at_once)

        async def one(place: int, query: Query) -> None:
            try:
                served = await self.serve(phase, query)
            finally:
                room.release()
            results[place] = served
            self.progress.served.append(served)
            self.on_change(self.progress)

        next_start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for place, query in enumerate(queries):
                await _keep_up(self.progress, self.pace)
                await asyncio.sleep(max(0.0, next_start - time.perf_counter()))
                # A pause is not made up for by a burst: at most a second's worth.
                next_start = max(next_start + 1 / self.pace.per_s, time.perf_counter() - 1)
                await room.acquire()
                group.create_task(one(place, query))
        return [results[place] for place in range(len(queries))]

    async def serve(self, phase: Phase, query: Query) -> Served:
        rid = request_id(self.experiment, phase, query, self.seed)
        started = time.perf_counter()
        choice = await self.wheel.decide(rid)
        decide_ms = (time.perf_counter() - started) * 1000
        if choice.arm not in self.experiment.arms:
            raise ValueError(f"the router chose {choice.arm!r}, which is no arm of {self.experiment.source}")
        answer = self.experiment.answer(phase, choice.arm, query)
        await self.wheel.report(rid, choice, answer)
        return Served(
            phase=phase.name,
            request_id=rid,
            arm=choice.arm,
            answer=answer,
            propensity=choice.propensity,
            fallback=choice.fallback,
            decide_ms=decide_ms,
            decision_id=choice.decision_id,
        )


async def _keep_up(progress: Progress, pace: Pace) -> None:
    """Wait until the policy has learned enough of what was reported."""
    waited_from, learned = time.perf_counter(), progress.learned
    while progress.lag >= pace.ahead:
        if progress.learned > learned:
            waited_from, learned = time.perf_counter(), progress.learned
        elif time.perf_counter() - waited_from > pace.patience_s:
            raise NotLearning(
                f"{progress.lag} outcomes were reported, and for {pace.patience_s:g} s the policy took none of them in "
                f"(it stands on {progress.learned})"
            )
        await asyncio.sleep(0.02)
