"""One row of the fault table played: the system, a load, the fault, and then the account of everything."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx
from aiokafka.admin import AIOKafkaAdminClient
from load import BUDGET, FEATURE, Load, publish_budget, publish_charter
from system import SERVICES, System, step_folder, until

from flywheel.events import Codec, load_registry, topics
from flywheel.local.topic_admin import create_topics
from flywheel.testkit import Balance, Ledger
from flywheel.testkit.draining import (
    Drained,
    ask_sql,
    drain,
    end_offsets,
    state_digests,
    states_behind,
    view_ids,
)  # fmt: skip

FACTS: Final = ("llm-decisions", "llm-calls", "llm-feedback", "llm-evaluations")
VIEWS: Final = {"llm-decisions": "v_decisions", "llm-calls": "v_calls", "llm-feedback": "v_feedback"}
DERIVED: Final = ("llm-outcomes", "arm-summaries", "policies")
LEDGER: Final = ("budget-ledger", "budget-leases", "budget-states", "alerts")
STEPS: Final = {
    "bandit-join": FACTS,
    "bandit-learn": ("arm-summaries", "charters"),
    "budget-spend": ("llm-decisions", "llm-calls", "budgets"),
    "budget-guard": ("budget-ledger",),
}
REPLAYED: Final = ("bandit-join", "bandit-learn", "budget-spend")
"""Steps whose states the replay must reach byte for byte. The guard's hold the broker's time of what it read, and that
is another log in the replay: there it is the money that is compared."""
SHARDS: Final = 4
SETTLED_S: Final = 400.0
FACTS_PER_S: Final = 1_500
"""What a busy machine folds at least: a long run has more to settle."""
POISON: Final = "poison-"


@dataclass
class Scene:
    """What a row works with: the running system and its load. A row counts what it did in ``kills`` and says in
    ``notes`` what else was seen; ``fails`` makes it fail."""

    system: System
    load: Load
    short: bool
    kills: int = 0
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    letters: set[str] = field(default_factory=set)
    """Dead letters there must be, as ``letter_name`` writes them."""
    codec: Codec = field(default_factory=lambda: Codec(load_registry()))
    retold: bool = False
    """Whether the bandit began again from nothing."""
    extra: dict[str, int] = field(default_factory=dict)
    """Redeliveries that the row itself has seen, by kind."""

    def need(self, true: bool, what: str) -> None:
        """Note a promise that did not hold."""
        if not true:
            self.problems.append(what)

    async def under_load(self, seconds: float) -> None:
        """Let the load run on."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Report:
    """What a row showed. ``repeats`` are redeliveries by kind."""

    row: int
    title: str
    load: Mapping[str, float]
    kills: int
    repeats: Mapping[str, int]
    balances: tuple[Balance, ...]
    states: Mapping[str, int]
    sums: Mapping[str, str]
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether everything held."""
        return not self.problems


Inject = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table. ``why_not`` is set for one that does not apply yet. ``redelivers``: it has to have caused a
    redelivery, else it has shown nothing."""

    number: int
    title: str
    inject: Inject | None = None
    redelivers: bool = False
    proxied: bool = False
    brokers: int = 1
    per_s: int = 100
    resend: float = 0.0
    environ: Mapping[str, str] = field(default_factory=dict)
    why_not: str = ""


async def play(row: Row, folder: Path, *, short: bool, seed: int) -> Report:
    """Play a row in an empty folder. Whatever goes wrong is a problem in the report."""
    assert row.inject is not None
    with System(folder, proxied=row.proxied, brokers=row.brokers) as system:
        system.environ.update(row.environ)
        await system.start_all()
        load = Load(system.url, per_s=row.per_s // 2 if short else row.per_s, resend=row.resend, seed=seed)
        scene = Scene(system, load, short)
        await publish_budget(system.bootstrap)
        await until(lambda: system.metric("budget", "budget_available_usd") > 0, "the budget is known")
        await publish_charter(system.bootstrap)
        await until(lambda: outcomes_learned(system) is not None, "the router has a policy")
        loading = asyncio.create_task(load.run())
        try:
            await scene.under_load(1.0)
            await _beside(loading, row.inject(scene))
            await scene.under_load(1.0)
            load.stop()
            await asyncio.wait_for(loading, 120)
            return await _account(row, scene)
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)


async def _beside(loading: asyncio.Task[None], injecting: Awaitable[None]) -> None:
    """Inject faults while the load runs. Raises what ends the load, at once: without it nothing is shown."""
    faults = asyncio.ensure_future(injecting)
    try:
        await asyncio.wait((loading, faults), return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
        await faults
    finally:
        faults.cancel()
        await asyncio.gather(faults, return_exceptions=True)


def outcomes_learned(system: System) -> int | None:
    """How many outcomes the policy in force at the router stands on; None before there is one."""
    try:
        answer = httpx.get(f"{system.url('router')}/v1/policies", timeout=5, trust_env=False)
    except httpx.HTTPError:
        return None
    found = [policy for policy in answer.json().get("policies", []) if policy["feature"] == FEATURE]
    return int(found[0]["outcomes"]) if found else None


async def _account(row: Row, scene: Scene) -> Report:
    """Wait until everything is done, then count it, rebuild it and compare."""
    system, load = scene.system, scene.load
    await settled(scene)
    learned = outcomes_learned(system)
    scene.need(learned == load.outcomes, f"the policy stands on {learned} outcomes, there were {load.outcomes}")
    scene.problems += load.refused[:3]
    drained = {name: await drain(system.bootstrap, name, scene.codec) for name in (*FACTS[:3], *DERIVED)}
    balances = await asyncio.to_thread(_count, scene, drained)
    balances += await _letters(scene)
    live = Money(await asyncio.to_thread(_outcomes_in_view, system), await _budgets(system.bootstrap))
    names = [name for name in SERVICES if system.alive(name)]
    await asyncio.gather(*(system.stop(name) for name in names))
    before = await asyncio.to_thread(_digests, system.folder)
    after, replayed = await _replay(system, load.events)
    differing = sorted(shard for shard in before | after if before.get(shard) != after.get(shard))
    scene.need(not differing, f"states differ from the replay: {', '.join(differing)}")
    due = SHARDS * len(REPLAYED)
    scene.need(len(before) == due, f"there should be {due} states, there are {len(before)}")
    sums = _compare(scene, live, replayed)
    repeats = {
        "posted again": load.posted_again,
        "ids again on topics": sum(one.again_by_id for one in drained.values()),
        "lineage repeats": sum(one.again_by_lineage for one in drained.values()),
        **scene.extra,
    }
    scene.need(not row.redelivers or sum(repeats.values()) > 0, "nothing was delivered twice: the row shows nothing")
    scene.problems += [str(balance) for balance in balances if not balance.even]
    return Report(
        row=row.number, title=row.title, kills=scene.kills, repeats=repeats, balances=tuple(balances), sums=sums,
        load={"requests": load.requests, "events": load.events, "seconds": round(load.seconds, 1)},
        states={"shards": len(before), "equal to the replay": len(before) - len(differing)},
        notes=tuple(scene.notes), problems=tuple(scene.problems),
    )  # fmt: skip


async def settled(scene: Scene) -> None:
    """Return when the bandit has folded and sent everything, and the views hold every request."""
    system, load = scene.system, scene.load
    settled_s = SETTLED_S + load.events / FACTS_PER_S
    deadline = time.monotonic() + settled_s
    quiet = 0
    while quiet < 2:  # a second look: the first may have come between two batches
        behind = {}
        for step, names in STEPS.items():
            ends = await end_offsets(system.bootstrap, names)
            behind[step] = await asyncio.to_thread(states_behind, step_folder(system.folder, step), ends)
        rows = await asyncio.to_thread(_rows, system)
        letters = await asyncio.to_thread(_letters_recorded, system)
        counted = rows >= load.outcomes and letters >= len(scene.letters)
        done = counted and not any(behind.values()) and outcomes_learned(system) == load.outcomes
        quiet = quiet + 1 if done else 0
        if time.monotonic() > deadline:
            scene.need(
                False,
                f"not settled after {settled_s:.0f} s: behind {behind}, outcomes in the view {rows}, letters {letters}",
            )
            return
        await asyncio.sleep(0.7)


async def joined(system: System) -> tuple[int, int]:
    """How many facts the bandit has joined so far, and how many there are."""
    ends = await end_offsets(system.bootstrap, FACTS)
    there = sum(ends.values())
    behind = await asyncio.to_thread(states_behind, step_folder(system.folder, "bandit-join"), ends)
    return there - behind, there


def _rows(system: System) -> int:
    try:
        return int(ask_sql(system.url("recorder"), "SELECT count() FROM v_outcomes WHERE reward IS NOT NULL")[0][0])
    except httpx.HTTPError:
        return -1


def _count(scene: Scene, drained: Mapping[str, Drained]) -> list[Balance]:
    """Every topic and view against what was sent."""
    ledger, url = scene.load.ledger, scene.system.url("recorder")
    unheard = _unheard(scene, drained["llm-decisions"])
    for topic, view in VIEWS.items():
        # Poison that decodes lies on the topic too; in a view it would be a phantom.
        ours = [found for found in drained[topic].ids if found not in unheard]
        ledger.seen(topic, [found for found in ours if not found.startswith(POISON)])
        ledger.sent(view, ledger.ids_sent(topic))
        ledger.seen(view, [found for found in view_ids(url, view) if found not in unheard])
    ledger.seen("v_outcomes", view_ids(url, "v_outcomes", "request_id", "reward IS NOT NULL"))
    _revisions(ledger, drained["llm-outcomes"], retold=scene.retold)
    surplus = ask_sql(url, "SELECT table, surplus_rows FROM v_audit WHERE surplus_rows != 0")
    scene.need(not surplus, f"v_audit: rows there twice: {surplus}")
    return ledger.balances()


def _unheard(scene: Scene, decisions: Drained) -> set[str]:
    """Decisions that were logged, as each must be before it is answered, and whose answer was lost with the router: the
    caller asked the same request again and went by what he then heard."""
    ours = set(scene.load.ledger.ids_sent("llm-decisions"))
    again = [one.value for one in decisions.taken if one.value["request_id"] in scene.load.reasked]
    unheard = {str(value["event_id"]) for value in again} - ours
    if unheard:
        scene.extra["decided unheard"] = len(unheard)
    return unheard


def _revisions(ledger: Ledger, outcomes: Drained, *, retold: bool) -> None:
    """Every request told of, and a request's revisions in order: each corrects the ones before it. A bandit that lost
    its disk tells again what it had told, from the first revision on."""
    told: dict[str, list[tuple[int, str]]] = {}
    for one in outcomes.taken:
        told.setdefault(one.value["request_id"], []).append((one.value["revision"], one.value["event_id"]))
    ours = ledger.ids_sent("v_outcomes")
    for request in ours:
        revisions = [found for _, found in sorted(told.get(request, [(0, request)]))]
        ledger.sent("llm-outcomes", revisions, key=None if retold else request)
    ledger.seen("llm-outcomes", outcomes.ids)


def _letters_recorded(system: System) -> int:
    try:
        return int(ask_sql(system.url("recorder"), "SELECT uniqExact(event_id) FROM v_dead_letters")[0][0])
    except httpx.HTTPError:
        return -1


async def _letters(scene: Scene) -> list[Balance]:
    """The dead letters there are against those there must be; without poison none."""
    ledger = Ledger()
    ledger.sent("dead letters", scene.letters)
    for topic in topics().values():
        if topic.event == "dead_letter":
            found = await drain(scene.system.bootstrap, topic.name, scene.codec)
            ledger.seen("dead letters", [letter_name(one.value) for one in found.taken])
            again = scene.extra.get("dead letters again", 0) + found.again_by_id
            if again:
                scene.extra["dead letters again"] = again
    return ledger.balances()


def letter_name(value: Mapping[str, Any]) -> str:
    """Who refused which record, and why."""
    place = f"{value['source_topic']}/{value['source_partition']}/{value['source_offset']}"
    return f"{value['service']} {place} {value['reason']}"


Outcomes = Mapping[str, tuple[float, Decimal]]


@dataclass(frozen=True, slots=True)
class Money:
    """What it cost: the reward and the cost of each request, and what each budget says was spent, in how many calls."""

    outcomes: Outcomes
    budgets: Mapping[str, tuple[Decimal, int]]


def _digests(folder: Path) -> Mapping[str, str]:
    return {
        f"{step}/{name}": digest
        for step in REPLAYED
        for name, digest in state_digests(step_folder(folder, step)).items()
    }


async def _budgets(bootstrap: str) -> Mapping[str, tuple[Decimal, int]]:
    """Where each budget stands, by instance."""
    newest: dict[str, Mapping[str, Any]] = {}
    for one in (await drain(bootstrap, "budget-states", Codec(load_registry()))).taken:
        newest[one.value["instance"]] = one.value
    return {name: (value["spent_usd"], value["calls"]) for name, value in newest.items()}


def _outcomes_in_view(system: System) -> Outcomes:
    rows = ask_sql(
        system.url("recorder"),
        "SELECT request_id, reward, toString(cost_usd) FROM v_outcomes WHERE reward IS NOT NULL",
    )
    return {str(request): (float(reward), Decimal(cost)) for request, reward, cost in rows}


async def _replay(system: System, facts: int) -> tuple[Mapping[str, str], Money]:
    """The bandit and the budgets over the same log, from nothing and without faults: their states, the outcomes, and
    where the budgets stand. What the run derived is deleted first, so that the replay learns from the facts alone."""
    await _forget(system.bootstrap, system.brokers)
    folder = system.folder / "replay"
    again = {"bandit-9": folder / "state" / "bandit", "budget-9": folder / "state" / "budget"}
    await asyncio.gather(
        *(system.start(name, FLYWHEEL_STATE_DIR=str(state), FLYWHEEL_GROUP="replay") for name, state in again.items())
    )
    quiet, deadline = 0, time.monotonic() + SETTLED_S + facts / FACTS_PER_S
    while quiet < 2 and time.monotonic() < deadline:
        behind = 0
        for step, names in STEPS.items():
            ends = await end_offsets(system.bootstrap, names)
            behind += await asyncio.to_thread(states_behind, step_folder(folder, step), ends)
        quiet = quiet + 1 if behind == 0 else 0
        await asyncio.sleep(0.7)
    await asyncio.gather(*(system.stop(name) for name in again))
    told: dict[str, tuple[int, float, Decimal]] = {}
    for one in (await drain(system.bootstrap, "llm-outcomes", Codec(load_registry()))).taken:
        value = one.value
        if value["reward"] is not None and value["revision"] >= told.get(value["request_id"], (0,))[0]:
            told[value["request_id"]] = (value["revision"], value["reward"], value["cost_usd"] or Decimal(0))
    outcomes = {name: (reward, cost) for name, (_, reward, cost) in told.items()}
    return _digests(folder), Money(outcomes, await _budgets(system.bootstrap))


async def _forget(bootstrap: str, copies: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        derived = (*DERIVED, *LEDGER)
        await admin.delete_topics(list(derived))
        while set(derived) & set(await admin.list_topics()):
            await asyncio.sleep(0.1)
    finally:
        await admin.close()
    await create_topics(bootstrap, [topics()[name] for name in derived], replication=copies)


def _compare(scene: Scene, run: Money, replay: Money) -> Mapping[str, str]:
    """Money and rewards: request by request and budget by budget against the replay, and against what was posted."""
    live, replayed = run.outcomes, replay.outcomes
    wrong = sorted(name for name in live.keys() | replayed.keys() if live.get(name) != replayed.get(name))
    scene.need(not wrong, f"{len(wrong)} outcomes differ from the replay (first {wrong[:1]})")
    spent = sum((cost for _, cost in live.values()), Decimal(0))
    posted = scene.load.cost_usd
    scene.need(spent == posted, f"the outcomes say {spent} USD were spent, posted were {posted}")
    scene.need(run.budgets == replay.budgets, f"budgets stand at {run.budgets}, in the replay at {replay.budgets}")
    budget = run.budgets.get(f"default/{BUDGET}", (Decimal(-1), 0))[0]
    due = posted + scene.load.passive_usd
    scene.need(budget == due, f"the budget says {budget} USD were spent, posted were {due}")
    rewards = {"run": live, "replay": replayed}
    return {
        "cost_usd posted": f"{posted:.4f}",
        "cost_usd budget": f"{budget:.4f}",
        **{
            f"cost_usd {name}": f"{sum((c for _, c in found.values()), Decimal(0)):.4f}"
            for name, found in rewards.items()
        },
        **{f"reward {name}": f"{math.fsum(r for r, _ in found.values()):.6f}" for name, found in rewards.items()},
    }
