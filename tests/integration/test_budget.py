"""A hard budget on a real broker: holders that spend it all while the service is killed again and again.

Decisions and calls are told twice now and then, calls sometimes before their decision. At the end the sum of what calls
really cost is compared with the budget, with the state the service tells, and with a service that reads the log anew.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from flywheel.budget import Budget, to_pico, to_usd
from flywheel.budget.leases import Lease
from flywheel.budget.purse import Purse
from flywheel.cli.budgeting import apply_budgets, standings
from flywheel.events import Codec, LocalRegistry, event_id, topics
from flywheel.local.topic_admin import create_topics
from flywheel.stream import CompactedTable, KafkaBus, Output, Publisher
from flywheel.testkit.draining import state_digests
from flywheel_budget.core import INPUTS, LEDGER
from flywheel_budget.wiring import GUARD, SPEND

pytest_plugins = ["flywheel.local.fixtures"]

AMOUNT_USD = Decimal(1)
BOUND_PICO = 4 * 10**9
BUDGET = Budget("acme", "day", 1, 0, to_pico(AMOUNT_USD), "day", scope=(("team", "cx"),), mode="hard")
HOLDERS, KILLS = 4, 3


class Service:
    """The real process, which can be killed and started again."""

    def __init__(self, bootstrap: str, state_dir: Path) -> None:
        self._environment = os.environ | {
            "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap,
            "FLYWHEEL_STATE_DIR": str(state_dir),
            "FLYWHEEL_OPS_PORT": "0",
            "FLYWHEEL_GROUP": state_dir.name,
        }
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "flywheel_budget", env=self._environment, stdout=asyncio.subprocess.DEVNULL
        )

    async def end(self, how: int) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(how)
        await self.process.wait()


class Holder:
    """A deciding process: the router's purse, and calls that cost a random share of what was reserved for them."""

    def __init__(self, name: str, publisher: Publisher, seed: int) -> None:
        self.name, self.purse, self._publisher, self._random = name, Purse(name), publisher, Random(seed)
        self.cost_pico, self.calls, self.done = 0, 0, False

    def hear(self, value: dict) -> None:
        end_us = value["window_end"]
        lease = Lease(
            account=value["account"], seq=value["seq"], granted_pico=to_pico(value["granted_usd"]),
            window=value["window"], window_end_us=end_us,
            lasts_s=None if end_us is None else (end_us - value["occurred_at"]) / 1e6, ttl_s=value["ttl_s"],
            closed=value["closed"], scarce=value["scarce"], exhausted=value["exhausted"], reason=value["reason"],
        )  # fmt: skip
        self.purse.apply(lease, now_s())

    async def spend(self) -> None:
        """Decide and call until the budget is said to be exhausted."""
        while not self.purse.standing(BUDGET.key, now_s()).exhausted:
            made = self.purse.reserve([BUDGET.key], BOUND_PICO, now_s())
            if made is None:
                self.purse.want([BUDGET.key], BOUND_PICO, now_s())
                await asyncio.sleep(0.05)
                continue
            await self._call(made)
        self.purse.close_all()
        self.done = True

    async def _call(self, made) -> None:
        self.calls += 1
        request, cost = f"{self.name}-{self.calls}", self._random.randint(0, BOUND_PICO)
        self.cost_pico += cost
        at_us = wall_us()
        common = {"project": "acme", "request_id": request, "occurred_at": at_us, "team": "cx"}
        reservations = [
            {"budget": r.instance, "window": r.window, "account": r.account, "bound_usd": to_usd(r.bound_pico),
             "cumulative_usd": to_usd(r.cumulative_pico)} for r in made
        ]  # fmt: skip
        decision = {
            **common, "event_id": event_id("decision", request), "policy": "p", "policy_version": 1,
            "policy_kind": "static", "arm": "a", "propensity": 1.0, "reason": "policy", "decider": "router",
            "reservations": reservations,
        }  # fmt: skip
        call = {
            **common, "event_id": event_id("call", request), "provider": "openai", "request_model": "gpt-4o",
            "status": "OK", "cost_usd": to_usd(cost),
        }  # fmt: skip
        facts = [Output("llm-decisions", request, "decision", decision), Output("llm-calls", request, "llm_call", call)]
        told = facts + self._random.sample(facts, self._random.randint(0, 2))
        self._random.shuffle(told)
        await self._publisher.publish(told)

    async def ask(self) -> None:
        """Send what the purse wants said, until it holds nothing."""
        swept_s = 0.0
        while not (self.done and self.purse.closing == 0):
            sweep = now_s() - swept_s > 0.25
            swept_s = now_s() if sweep else swept_s
            requests = self.purse.sweep(now_s()) if sweep else self.purse.requests(now_s())
            if requests:
                await self._publisher.publish([self._entry(r) for r in requests])
            await asyncio.sleep(0.01)

    def _entry(self, r) -> Output:
        value = {
            "event_id": event_id("ask", r.account, r.seq), "project": "acme", "budget": "day",
            "occurred_at": wall_us(), "kind": "request", "instance": r.instance, "window": r.window,
            "account": r.account, "holder": self.name, "incarnation": "1", "seq": r.seq,
            "reserved_usd": to_usd(r.reserved_pico), "limit_wanted_usd": to_usd(r.limit_wanted_pico),
            "need_usd": to_usd(r.need_pico), "closing": r.closing,
        }  # fmt: skip
        return Output("budget-ledger", r.account, "budget_entry", value, BUDGET.key)


def now_s() -> float:
    return asyncio.get_running_loop().time()


def wall_us() -> int:
    return time.time_ns() // 1000


async def caught_up(bootstrap: str, group: str) -> None:
    """Wait until both stages have committed the ends of their topics, twice in a row."""
    read = {f"{group}-{SPEND}": INPUTS, f"{group}-{GUARD}": (LEDGER,)}
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await admin.start()
    await consumer.start()
    try:
        calm = 0
        while calm < 3:
            await asyncio.sleep(0.5)
            behind = False
            for member, names in read.items():
                held = [TopicPartition(name, n) for name in names for n in range(topics()[name].partitions)]
                ends, done = await consumer.end_offsets(held), await admin.list_consumer_group_offsets(member)
                behind |= any(ends[p] and (p not in done or done[p].offset < ends[p]) for p in held)
            calm = 0 if behind else calm + 1
    finally:
        await consumer.stop()
        await admin.close()


@pytest.mark.broker
@pytest.mark.timeout(600)
async def test_a_hard_budget_is_spent_and_never_overspent_while_the_service_is_killed(private_kafka, tmp_path):
    bootstrap = private_kafka().bootstrap
    await create_topics(bootstrap, topics().values())
    (applied,) = await apply_budgets(bootstrap, [BUDGET])
    assert applied.changed and not (await apply_budgets(bootstrap, [BUDGET]))[0].changed

    codec, bus = Codec(LocalRegistry.load()), KafkaBus(bootstrap, client_id="holders")
    publisher = Publisher(bus, codec, source="test")
    await publisher.start()
    holders = [Holder(f"router-{n}", publisher, n) for n in range(HOLDERS)]
    leases = CompactedTable(
        bus, "budget-leases", codec, lambda _key, value: [h.hear(value) for h in holders if value["holder"] == h.name]
    )
    service = Service(bootstrap, tmp_path / "first")
    await service.start()
    following = asyncio.create_task(leases.run())
    work = [asyncio.create_task(job) for h in holders for job in (h.spend(), h.ask())]
    try:
        async with asyncio.timeout(240):
            for _ in range(KILLS):
                before = sum(h.calls for h in holders)
                while sum(h.calls for h in holders) < before + 40 and not all(h.done for h in holders):
                    await asyncio.sleep(0.05)
                await service.end(signal.SIGKILL)
                await service.start()
            await asyncio.gather(*work)
            await caught_up(bootstrap, "first")
        cost = sum(h.cost_pico for h in holders)
        (standing,) = await standings(bootstrap)
        assert cost <= BUDGET.amount_pico
        assert cost >= BUDGET.amount_pico * 97 // 100
        assert (standing.spent_usd, standing.exposure_usd, standing.stranded_usd) == (to_usd(cost), 0, 0)
    finally:
        for task in work:
            task.cancel()
        await leases.stop()
        await following
        await publisher.stop()
        await service.end(signal.SIGTERM)
    # A service without a disk reads everything anew and says on the ledger what was said; the first one reads that too.
    for life in ("again", "first"):
        service = Service(bootstrap, tmp_path / life)
        await service.start()
        try:
            async with asyncio.timeout(120):
                await caught_up(bootstrap, life)
        finally:
            await service.end(signal.SIGTERM)
    first, again = state_digests(tmp_path / "first"), state_digests(tmp_path / "again")
    assert len(first) == 8, "both stages hold four shards"
    assert first == again
