"""Ten kinds of incident in the running system, each noticed, acted on, verified and taken back without anybody.

Kafka, ingest, router, bandit, budget, detector and controller run as processes; callers ask, a simulated provider
answers. After a calm time, in which the detector learns what is usual, harmless things happen, which nobody may act
upon; then the incidents begin one after another, each on a feature of its own. At the end everything the detector and
the controller said is computed anew from their ledgers and compared. The rules are those that are shipped; their times
and the detector's pass ``--speed`` times as fast. ``--kills`` ends the detector and the controller with -9 all along.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import httpx
from incident_kinds import BY_NAME, HARMLESS, INCIDENTS, Incident
from incident_play import ENDS, PROJECT, ROLLING_S, Heard, Row, Stage, charter_of, now_us, play
from incident_world import World
from load import publish
from system import READY_S, System, until

from flywheel.budget import Budget, to_pico
from flywheel.cli.controlling import apply_rules
from flywheel.control import parse_rules
from flywheel.control.shipped import default_rules, default_rules_text
from flywheel.events import Codec, load_registry
from flywheel.observe import load_settings
from flywheel.policy.declared_values import seconds_of
from flywheel.stream import Output
from flywheel.testkit.replaying import replayed, said
from flywheel_controller.core import LEDGER as CONTROL_LEDGER
from flywheel_controller.core import ActFold
from flywheel_detector.core import LEDGER as DETECTION_LEDGER
from flywheel_detector.core import DetectFold
from flywheel_detector.settings import DetectorSettings

SERVICES: Final = ("ingest", "router", "bandit", "budget", "detector", "controller")
KILLED: Final = ("detector", "controller")
QUICKER: Final = ("window_s", "resolve_s", "quiet_s", "repeat_s", "accept_s")
SHORT: Final = ("outage", "bad-prompt")
TICK_S: Final = 0.5
WARM_UP: Final = 128
LEARNED: Final = 260
"""Calls of each arm before anything happens: what is only learned from, and enough after it to be sure of."""
USUAL_USD: Final = 0.0019
"""What a call costs in the mean."""
_DURATION: Final = re.compile(r"(?<=[ :])(\d+(?:\.\d+)?[smhd])(?=[,}\n])")
_LIMIT: Final = re.compile(r"(per_hour|per_feature_per_hour): (\d+)")


@dataclass
class Account:
    """What a run came to. ``actions``: how many were applied; ``said``: events held against the replay."""

    rows: list[Row]
    calm_s: float
    seconds: float
    calls: int
    harmless: list[str]
    actions: int = 0
    said: dict[str, int] = field(default_factory=dict)
    kills: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether everything came as it should."""
        return not self.problems and not any(row.problems for row in self.rows)


def quicker(text: str, speed: float) -> str:
    """Rules whose times pass ``speed`` times as fast; as the hour of the limits does not, they are so much wider."""
    text = _DURATION.sub(lambda found: f"{seconds_of(found[1]) / speed:g}s", text)
    return _LIMIT.sub(lambda found: f"{found[1]}: {round(int(found[2]) * speed)}", text)


def detector_pace(speed: float) -> dict[str, float]:
    """The detector's settings whose times pass so much faster."""
    shipped = load_settings(DetectorSettings)
    return {name: getattr(shipped, name) / speed for name in QUICKER} | {"tick_s": TICK_S, "warm_up": WARM_UP}


async def run(options: argparse.Namespace, folder: Path) -> Account:
    """Play it in a folder."""
    incidents = [BY_NAME[name] for name in options.only or (SHORT if options.short else BY_NAME)]
    if options.short:
        incidents = [replace(incident, lasts=False) for incident in incidents]
    features = [*(incident.feature for incident in incidents), *(() if options.short else HARMLESS)]
    pace, began = detector_pace(options.speed), time.monotonic()
    with System(folder) as system:
        system.environ.update({f"FLYWHEEL_{name.upper()}": str(value) for name, value in pace.items()})
        await system.start_all(SERVICES)
        amount_usd = round(2.5 * USUAL_USD * options.per_s * ROLLING_S, 3)
        rules = quicker(default_rules_text(), options.speed)
        await apply_rules(system.bootstrap, PROJECT, rules)
        await publish(system.bootstrap, [charter_of(feature, 1, 1) for feature in features])
        if "budget-race" in features:
            await publish(system.bootstrap, [_budget(amount_usd)])
        await until(partial(_decides, system, features), "the router has every policy")
        world = World(system.url, features, options.per_s, options.seed)
        heard = Heard(system.bootstrap)
        return_s = max(rule.return_after for rule in parse_rules(rules).rules)
        stage = Stage(system.bootstrap, world, heard, amount_usd, return_s)
        tasks = [asyncio.create_task(world.run()), asyncio.create_task(heard.run())]
        try:
            account = await _played(options, system, stage, incidents)
            await _settled(system, heard, account, return_s)
            world.stop()
            await asyncio.wait_for(tasks[0], 120)
            account.problems += [f"{_alive(system, name)}" for name in SERVICES if not system.alive(name)]
            account.problems += sorted(set(world.wrong))[:3]
            await _hold_against_the_ledgers(system.bootstrap, pace, account)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    account.calls, account.seconds = world.requests, time.monotonic() - began
    return account


async def _played(options: argparse.Namespace, system: System, stage: Stage, incidents: Sequence[Incident]) -> Account:
    world, heard, began = stage.world, stage.heard, time.monotonic()
    cells = [(feature, arm) for feature in world.features for arm in ("strong", "cheap")]
    await until(lambda: all(world.calls(*cell) >= LEARNED for cell in cells), "there were calls to learn from", 1800)
    account = Account([], time.monotonic() - began, 0.0, 0, [])
    killing = None
    if options.kills or options.short:
        kill = _kill_once_acted if options.short else _kill_now_and_then
        killing = asyncio.create_task(kill(system, heard, options, account.kills))
    try:
        if not options.short:
            await _disturb(system, world)
        account.problems += [f"{_told(action)} though nothing was wrong" for action in heard.actions.values()]
        playing = []
        for incident in incidents:
            playing.append(asyncio.create_task(play(incident, stage)))
            await asyncio.sleep(options.apart)
        account.rows = await asyncio.gather(*playing)
    finally:
        if killing is not None:
            if not options.short:
                killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)
    account.harmless = [f"{feature}: {_told(each)}" for feature in HARMLESS for each in heard.on(feature)]
    account.problems += account.harmless
    return account


async def _disturb(system: System, world: World) -> None:
    """Harmless things: a burst of traffic, one slow call, services that are restarted."""
    world.rates["burst"] = 4.0
    world.next_call["one-slow-call", "strong"] = {"latency_ms": 120_000.0}
    for name in ("ingest", "bandit"):
        await system.stop(name)
        await system.start(name)
    await asyncio.sleep(10)
    world.rates.pop("burst")
    await asyncio.sleep(10)


async def _kill_once_acted(system: System, heard: Heard, _: argparse.Namespace, kills: dict[str, int]) -> None:
    """Kill the controller with -9 when it has done something, and start it again."""
    await until(lambda: bool(heard.actions), "something was done")
    await system.kill("controller")
    kills["controller"] = 1
    await system.start("controller")


async def _kill_now_and_then(system: System, _: Heard, options: argparse.Namespace, kills: dict[str, int]) -> None:
    """Kill the detector and the controller in turn with -9, at random moments, until cancelled; each starts again."""
    dice = random.Random(options.seed)
    for name in cycle(KILLED):
        await asyncio.sleep(dice.uniform(0.3, 1.7) * options.every)
        await system.kill(name)
        kills[name] = kills.get(name, 0) + 1
        await system.start(name)


async def _settled(system: System, heard: Heard, account: Account, return_s: float) -> None:
    """Return when everything that was done is over."""
    for name in KILLED:
        if not system.alive(name):  # its killer was stopped in between
            await system.start(name)
        await system.ready(name)

    def over() -> bool:
        states = defaultdict(set)
        for action in list(heard.actions.values()):
            states[action["action_id"]].add(action["state"])
        applied = [found for found in states.values() if "applied" in found]
        return all(found & {*ENDS} or "verified" in found for found in applied)

    await until(over, "every action is over", READY_S + return_s)
    steps = Counter((action["action_id"], action["state"]) for action in heard.actions.values())
    account.problems += [
        f"action {name} was {state} {count} times" for (name, state), count in steps.items() if count > 1
    ]
    account.actions = sum(state == "applied" for _, state in steps)


async def _hold_against_the_ledgers(bootstrap: str, pace: dict[str, float], account: Account) -> None:
    """What was said must be what the ledgers say: nothing less and nothing more."""
    codec = Codec(load_registry())
    settings = load_settings(DetectorSettings, **pace).detect
    for service, ledger, make, topics in (
        ("detector", DETECTION_LEDGER, lambda: DetectFold(settings), ("alerts",)),
        ("controller", CONTROL_LEDGER, lambda: ActFold(default_rules()), ("actions", "controls", "charters", "alerts")),
    ):
        before = {topic: await _of(service, bootstrap, topic, codec) for topic in topics}
        computed = await replayed(bootstrap, ledger, codec, make, service)
        after = {topic: await _of(service, bootstrap, topic, codec) for topic in topics}
        for topic in topics:
            due = computed.get(topic, {})
            extra, lost = before[topic].keys() - due.keys(), due.keys() - after[topic].keys()
            other = [key for key in due.keys() & after[topic].keys() if due[key] != after[topic][key]]
            account.said[f"{service} {topic}"] = len(due)
            for what, found in (("not on its ledger", extra), ("never said", lost), ("said otherwise", other)):
                if found:
                    account.problems.append(f"{service}: {len(found)} of {topic} {what}, e.g. {sorted(found)[0]}")


async def _of(service: str, bootstrap: str, topic: str, codec: Codec) -> dict[str, dict[str, Any]]:
    """What a service said on a topic, without what others said there."""
    found = await said(bootstrap, topic, codec)
    if topic == "charters":
        return {key: value for key, value in found.items() if value["revision"] > 2}
    if topic != "alerts":
        return found
    own = "action_" if service == "controller" else ""
    others = ("action_", "budget_", "circuit", "slo_")
    return {
        key: value for key, value in found.items()
        if (value["kind"].startswith(own) if own else not value["kind"].startswith(others))
    }  # fmt: skip


def _decides(system: System, features: Sequence[str]) -> bool:
    try:
        answer = httpx.get(f"{system.url('router')}/v1/policies", timeout=5, trust_env=False)
    except httpx.HTTPError:
        return False
    return {policy["feature"] for policy in answer.json().get("policies", [])} >= set(features)


def _budget(amount_usd: float) -> Output:
    at_us = now_us()
    budget = Budget(
        project=PROJECT,
        name="race",
        revision=1,
        effective_from_us=at_us - 60_000_000,
        amount_pico=to_pico(Decimal(str(amount_usd))),
        per="rolling",
        rolling_s=ROLLING_S,
        scope=(("feature", "budget-race"),),
        mode="hard",
    )
    return Output("budgets", budget.key, "budget", budget.event(at_us))


def _alive(system: System, name: str) -> str:
    return f"{name} ended: {system.tail(name, 3)}"


def _told(action: Any) -> str:
    return f"{action['kind']} {action['state']} on {action['feature']} ({action['reason']})"


def as_text(account: Account) -> str:
    """The run as a table."""
    head = ("incident", "noticed by", "s", "calls", "rule", "action", "s", "judged", "s", "again s", "afterwards", "s")
    lines = [head]
    for row in account.rows:
        figures = [row.noticed_s, row.acted_s, row.verified_s, row.again_s, row.back_s]
        noticed_s, acted_s, verified_s, again_s, back_s = ("" if each is None else f"{each:.0f}" for each in figures)
        calls = "" if row.calls is None else str(row.calls)
        lines.append((
            row.name, row.noticed, noticed_s, calls, row.rule, row.action, acted_s, row.verified, verified_s, again_s,
            row.back, back_s,
        ))  # fmt: skip
    wide = [max(len(line[place]) for line in lines) for place in range(len(head))]
    found = ["  ".join(cell.ljust(width) for cell, width in zip(line, wide, strict=True)).rstrip() for line in lines]
    found += [f"{row.name}: {said}" for row in account.rows for said in row.also]
    found += [f"WRONG {row.name}: {problem}" for row in account.rows for problem in row.problems]
    found += [f"WRONG {problem}" for problem in account.problems]
    kills = ", ".join(f"{name} {count}" for name, count in account.kills.items()) or "none"
    compared = ", ".join(f"{name} {count}" for name, count in account.said.items())
    found.append(
        f"{'passed' if account.passed else 'FAILED'}: {len(account.rows)} incidents, {account.calls} requests, "
        f"{account.seconds:.0f} s of which {account.calm_s:.0f} calm; {account.actions} actions, each once; actions on "
        f"what was harmless: {len(account.harmless)}; kills: {kills}; compared with the replay: {compared}"
    )
    return "\n".join(found)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0 when everything came as it should."""
    parser = argparse.ArgumentParser(prog="tests/faults/incidents.py", description=__doc__)
    names = [incident.name for incident in INCIDENTS]
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=names, help=f"one of {', '.join(names)}; again for more"
    )
    parser.add_argument("--kills", action="store_true", help="kill the detector and the controller with -9 all along")
    parser.add_argument("--every", type=float, default=30.0, help="mean seconds from a start to the next kill [30]")
    parser.add_argument(
        "--speed",
        type=float,
        help="how much faster the times of rules and detector pass [20; with --kills 10; short 30]",
    )
    parser.add_argument("--per-s", type=float, help="requests a second of each feature [5; short 25]")
    parser.add_argument("--apart", type=float, help="seconds from the begin of one incident to the next [8; short 1]")
    parser.add_argument(
        "--short", action="store_true", help="two incidents, nothing harmless, and one kill, once something was done"
    )
    parser.add_argument("--seed", type=int, default=7, help="seed of provider and kills [7]")
    parser.add_argument("--keep", type=Path, help="keep the folder (logs, states) below this one")
    parser.add_argument("--json", action="store_true", help="JSON instead of text")
    options = parser.parse_args(argv)
    # A process that was killed needs the same time to come back at any speed, and what it does is judged meanwhile.
    options.speed = options.speed or (30.0 if options.short else 10.0 if options.kills else 20.0)
    options.per_s = options.per_s or (25.0 if options.short else 5.0)
    options.apart = (1.0 if options.short else 8.0) if options.apart is None else options.apart
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="incidents-") as scratch:
        kept = None if options.keep is None else tempfile.mkdtemp(prefix="incidents-", dir=options.keep.absolute())
        account = asyncio.run(run(options, Path(kept or scratch)))
    if options.json:
        print(json.dumps(asdict(account) | {"result": "passed" if account.passed else "failed"}))
    else:
        print(as_text(account))
    return 0 if account.passed else 1


if __name__ == "__main__":
    sys.exit(main())
