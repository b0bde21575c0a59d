"""A hard budget under everything at once: many routers, many more calls than it pays for, all at the same time, with
random costs below their bounds, duplicates, and the guard or a router killed with -9 every few seconds.

``python tests/faults/budget.py [--routers 16] [--calls 5000] [--every 4] [--unbounded] [--json]``. What was spent is
counted three times, by the provider that billed it, on the topic and in ClickHouse. It must never exceed the budget,
and 97 % of the budget must be usable. ``--unbounded``: callers do not say ``max_tokens``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from system import RowFailed, System, until

from flywheel.budget import Budget
from flywheel.events import Codec, event_id, load_registry, topics
from flywheel.local.ports import free_port
from flywheel.local.topic_admin import create_topics
from flywheel.stream import KafkaBus, Output, Publisher, Unavailable
from flywheel.testkit.draining import ask_sql, drain, read_topic

sys.path.append(str(Path(__file__).parents[1] / "bench"))
from spending import FEATURE, MEAN_PICO, MODEL, MOST_OUTPUT, QUIET_S, Told, Workload, bill_of, play, start_provider, usd

USABLE: Final = Decimal("0.97")
SAID: Final = ("spent", "exposure", "available", "stranded")
NAME: Final = "all-of-it"
SHARE: Final = 3
"""The calls would cost so many times the budget."""
SETTLED_S: Final = 120.0
DECLARED_S: Final = 120.0
SUM: Final = f"SELECT toString(sum(cost_usd)) FROM v_calls WHERE feature = '{FEATURE}'"


@dataclass
class Account:
    """What a run came to, in dollars."""

    routers: int
    max_tokens: int | None
    budget_usd: Decimal
    billed_usd: Decimal
    topic_usd: Decimal
    store_usd: Decimal
    guard: dict[str, Decimal]
    """The guard's last word: spent, leased (exposure), available, stranded."""
    calls: int
    most_at_once: int
    told: Told
    kills: dict[str, int]
    seconds: float
    problems: list[str] = field(default_factory=list)

    @property
    def used(self) -> Decimal:
        """What was billed, as a share of the budget."""
        return self.billed_usd / self.budget_usd

    def check(self) -> None:
        """Note what does not hold."""
        for name, found in (("billed", self.billed_usd), ("topic", self.topic_usd), ("store", self.store_usd)):
            if found > self.budget_usd:
                self.problems.append(f"{name}: {found} USD spent of a hard budget of {self.budget_usd}")
        for name, found in (("topic", self.topic_usd), ("store", self.store_usd), ("guard", self.guard["spent"])):
            if found != self.billed_usd:
                self.problems.append(f"{name}: {found} USD, but {self.billed_usd} were billed")
        if self.used < USABLE:
            self.problems.append(f"only {self.used:.1%} of the budget could be used")
        if self.told.answered != self.calls:
            self.problems.append(f"{self.told.answered} calls were answered and {self.calls} billed")

    def text(self) -> str:
        """The run in a line."""
        limit = "with max_tokens" if self.max_tokens else "without max_tokens"
        return (
            f"budget, {self.routers} routers, {limit}: {'failed' if self.problems else 'passed'}; "
            f"${self.billed_usd} of ${self.budget_usd} ({self.used:.2%}) in {self.calls} calls, at most "
            f"{self.most_at_once} at once; refused for good {self.told.given_up}, refusals {self.told.refusals}, "
            f"kills {self.kills}, {self.seconds:.0f} s; guard: "
            + ", ".join(f"{name} {value.normalize():f}" for name, value in self.guard.items())
            + "".join(f"; {problem}" for problem in self.problems)
        )


def policy() -> dict[str, Any]:
    """Two arms of one model, so that what a call costs does not hang on which is chosen."""
    arms = [
        {
            "name": f"prompt-{place}", "model": f"openai/{MODEL}", "prompt_name": "paid", "prompt_version": str(place),
            "params": {}, "enabled": True, "weight": 50.0, "mean": 0.5, "eligible_when": [], "variance": 0.01,
            "alpha": 20.0 + place, "beta": 20.0, "score": 0.0, "propensity": 0.0,
        }
        for place in range(2)
    ]  # fmt: skip
    return {
        "event_id": event_id("policy", "default", FEATURE, 1), "project": "default", "feature": FEATURE,
        "occurred_at": time.time_ns() // 1000, "policy_version": 1, "kind": "thompson_beta", "charter_digest": "d",
        "charter_revision": 1, "default_arm": "prompt-0", "explore_floor": 0.01, "epsilon": 0.0, "stale_after_s": 0.0,
        "outcomes": 400, "arms": arms, "context": [],
    }  # fmt: skip


async def declare(bootstrap: str, amount_pico: int) -> None:
    """Publish the policy and the hard budget; a broker whose topics are new may not take them at once."""
    now_us = time.time_ns() // 1000
    budget = Budget(
        project="default",
        name=NAME,
        revision=1,
        effective_from_us=now_us - 60_000_000,
        amount_pico=amount_pico,
        per="month",
        scope=(("feature", FEATURE),),
        mode="hard",
        min_output_tokens=MOST_OUTPUT,
    )
    publisher = Publisher(KafkaBus(bootstrap), Codec(load_registry()), source="faults")
    await publisher.start()
    outputs = [
        Output("policies", f"default/{FEATURE}", "policy", policy()),
        Output("budgets", budget.key, "budget", budget.event(now_us)),
    ]
    async with asyncio.timeout(DECLARED_S):
        while outputs:
            with contextlib.suppress(Unavailable):
                await publisher.publish(outputs[:1])
                outputs.pop(0)
    await publisher.stop()


async def kill_now_and_then(system: System, names: list[str], every_s: float, kills: dict[str, int]) -> None:
    """Kill the guard or a router with -9, start it again, until cancelled."""
    dice = random.Random(1)
    while True:
        await asyncio.sleep(every_s)
        name = dice.choice(["budget", dice.choice(names)])
        await system.kill(name)
        kills[name.partition("-")[0]] = kills.get(name.partition("-")[0], 0) + 1
        await system.start(name)


async def spent(system: System) -> tuple[Decimal, dict[str, Decimal]]:
    """What the calls on the topic come to, each id once, and what the guard says last."""
    codec = Codec(load_registry())
    calls = await drain(system.bootstrap, "llm-calls", codec)
    by_id = {each.value["event_id"]: each.value["cost_usd"] for each in calls.taken}
    states = [
        codec.decode(each.value).value for each in await read_topic(system.bootstrap, "budget-states") if each.value
    ]
    last = [each for each in states if each["instance"] == f"default/{NAME}"][-1]
    return sum(by_id.values(), Decimal(0)), {name: last[f"{name}_usd"] for name in SAID}


async def run(options: argparse.Namespace, folder: Path) -> Account:
    """Play it in a folder."""
    amount_pico = options.calls * MEAN_PICO // SHARE
    routers = [f"router-{number}" for number in range(options.routers)]
    provider_port, kills = free_port(), dict[str, int]()
    provider = start_provider(provider_port)
    try:
        with System(folder, heap_mb=512) as system:
            await system.start_kafka()
            await create_topics(system.bootstrap, topics().values())
            await declare(system.bootstrap, amount_pico)
            for name in ("budget", "ingest", "recorder", *routers):
                system.spawn(name)
            for name in ("budget", "ingest", "recorder", *routers):
                await system.ready(name)
            urls = ",".join(system.url(name) for name in routers)
            command = ["flywheel", system.url("ingest"), f"http://127.0.0.1:{provider_port}", urls]
            limit = None if options.unbounded else MOST_OUTPUT
            workload = Workload(options.calls, options.clients or options.calls, options.processes, limit)
            began = time.monotonic()
            killing = asyncio.create_task(kill_now_and_then(system, routers, options.every, kills))
            told = await play(workload, command, provider_port, quiet_s=options.quiet)
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)
            seconds = time.monotonic() - began
            bill = bill_of(provider_port)
            url = system.url("recorder")
            expected = usd(bill.pico)
            with contextlib.suppress(RowFailed):  # the account says by how much it is out
                await until(lambda: stored(url) == expected, "ClickHouse has every call", SETTLED_S)
            topic, guard = await spent(system)
            last = time.monotonic() + SETTLED_S
            while guard["spent"] != expected and time.monotonic() < last:  # killed a moment ago, it reads what came
                await asyncio.sleep(1)
                topic, guard = await spent(system)
            account = Account(
                *(options.routers, limit, usd(amount_pico), expected, topic, stored(url), guard),
                *(bill.calls, bill.most_at_once, told, kills, seconds),
            )
            account.check()
            return account
    finally:
        provider.kill()
        provider.wait()


def stored(url: str) -> Decimal:
    """The sum of costs as ClickHouse has it."""
    return Decimal(ask_sql(url, SUM)[0][0])


def main() -> int:
    """Play it; 1 when the budget was overspent or could not be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routers", type=int, default=16)
    parser.add_argument("--calls", type=int, default=5_000)
    parser.add_argument("--clients", type=int, default=0, help="at once; 0: all of them")
    parser.add_argument("--processes", type=int, default=8, help="of callers")
    parser.add_argument("--every", type=float, default=4.0, help="seconds from one kill to the next")
    parser.add_argument("--quiet", type=float, default=QUIET_S, help="seconds without a call that end the run")
    parser.add_argument("--unbounded", action="store_true", help="callers do not say max_tokens")
    parser.add_argument("--keep", type=Path, help="a folder that stays, with its logs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        account = asyncio.run(run(options, options.keep or Path(made)))
    said = asdict(account) | {"used": account.used, "result": "failed" if account.problems else "passed"}
    print(json.dumps(said, default=str) if options.json else account.text(), flush=True)
    return 1 if account.problems else 0


if __name__ == "__main__":
    os.environ.setdefault("FLYWHEEL_LOG_LEVEL", "WARNING")
    raise SystemExit(main())
