"""Puts a person's controls and the controller's rules on their topics, and reads what is in force."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from flywheel.cli.publishing import ApplyFailed, asked, newest_of, publish
from flywheel.control import ControlInvalid, Item, Record, in_force
from flywheel.events import Codec, event_id
from flywheel.stream import KafkaBus, Output

CONTROLS: Final = "controls"
RULES: Final = "control-rules"
CHARTERS: Final = "charters"
POLICIES: Final = "policies"
BUDGETS: Final = "budgets"
BUDGET_STATES: Final = "budget-states"


@dataclass(frozen=True, slots=True)
class InForce:
    """One thing that is in force; ``until`` is None where nothing ends it by time."""

    project: str
    feature: str
    owner: str
    kind: str
    arms: tuple[str, ...]
    until: str | None
    by: str
    reason: str
    control_id: str


@dataclass(frozen=True, slots=True)
class AppliedRules:
    """What became of rules: ``changed`` is false when the newest revision already has this text."""

    project: str
    revision: int
    changed: bool


@dataclass(frozen=True, slots=True)
class Drift:
    """Something that runs otherwise than it was declared."""

    what: str
    subject: str
    declared: str
    running: str
    since: str | None


async def controls_now(bootstrap: str) -> list[InForce]:
    """Return everything that is in force now. Raises ``ApplyFailed``."""

    async def read(bus: KafkaBus, codec: Codec) -> list[InForce]:
        return held_now(await newest_of(bus, codec, CONTROLS), time.time_ns() // 1000)

    return await asked(bootstrap, "reading controls", read)


def held_now(events: Mapping[str, Mapping[str, Any]], now_us: int) -> list[InForce]:
    """Return what is in force at ``now_us`` by the newest ``control`` events; a person's empty word is shown too."""
    records: dict[tuple[str, str], dict[str, Record]] = {}
    for value in events.values():
        try:
            record = Record.from_event(value)
        except ControlInvalid:  # the controller sends it to the dead letters
            continue
        records.setdefault((record.project, record.feature), {})[record.owner] = record
    found: list[InForce] = []
    for _, owners in sorted(records.items()):
        person, controller = owners.get("person"), owners.get("controller")
        said = person if person is not None and person.live(now_us) else controller
        if said is None:
            continue
        items = in_force(person, controller, now_us)
        if said.owner == "person" and not items and said.live(now_us):
            items = (Item(said.record_id, "pause"),)
            found.append(replace(_shown(said, items[0]), kind="hands off", arms=()))
            continue
        found += [_shown(said, item) for item in items]
    return found


def _shown(record: Record, item: Item) -> InForce:
    ends = [end for end in (record.expires_us, item.expires_us) if end is not None]
    return InForce(
        record.project, record.feature, record.owner, item.kind, item.arms, time_text(min(ends)) if ends else None,
        record.by, item.reason or record.reason, item.control_id,
    )  # fmt: skip


def time_text(at_us: int) -> str:
    """Return microseconds since the epoch as a person reads them."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def say_control(bootstrap: str, wanted: Record) -> Record:
    """Publish a person's word as the next revision of its feature; its arms must be those of the policy, if any.

    Raises ``ApplyFailed``.
    """

    async def say(bus: KafkaBus, codec: Codec) -> Record:
        policy = (await newest_of(bus, codec, POLICIES)).get(wanted.place)
        check_arms(wanted, policy)
        known = (await newest_of(bus, codec, CONTROLS)).get(wanted.key)
        record = next_record(wanted, known, time.time_ns() // 1000)
        await publish(bus, codec, [Output(CONTROLS, record.key, "control", record.event(), record.place)])
        return record

    return await asked(bootstrap, "publishing the control", say)


def check_arms(wanted: Record, policy: Mapping[str, Any] | None) -> None:
    """Refuse arms that the feature's policy does not have. Raises ``ApplyFailed``."""
    if policy is None:
        return
    names = [arm["name"] for arm in policy["arms"]]
    for item in wanted.items:
        for arm in item.arms:
            if arm not in names:
                raise ApplyFailed(f"{wanted.place} has no arm {arm}; it has {', '.join(names)}")


def next_record(wanted: Record, known: Mapping[str, Any] | None, now_us: int) -> Record:
    """Return what is to be published: the next revision, with ids of its own for its items.

    Raises ``ApplyFailed`` when nothing is in force that could be lifted.
    """
    if wanted.lifted and (known is None or not Record.from_event(known).live(now_us)):
        raise ApplyFailed(
            f"no person's control is in force on {wanted.place}; to end what the controller has in force: "
            f"flywheel control set {wanted.feature} --hands-off"
        )
    revision = max(now_us, int(known["revision"]) + 1 if known else 1)
    made = replace(wanted, revision=revision, occurred_us=now_us)
    items = tuple(
        replace(item, control_id=event_id("override", made.project, made.feature, revision, place))
        for place, item in enumerate(made.items)
    )
    return replace(made, items=items)


async def apply_rules(bootstrap: str, project: str, text: str) -> AppliedRules:
    """Publish rules as the next revision of a project, unless the newest is this very text. Raises ``ApplyFailed``."""

    async def say(bus: KafkaBus, codec: Codec) -> AppliedRules:
        digest = sha256(text.encode()).hexdigest()
        known = (await newest_of(bus, codec, RULES)).get(project)
        if known is not None and known["digest"] == digest:
            return AppliedRules(project, int(known["revision"]), changed=False)
        revision = 1 if known is None else int(known["revision"]) + 1
        value = {
            "event_id": event_id("control_rules", project, revision, digest),
            "project": project,
            "occurred_at": time.time_ns() // 1000,
            "revision": revision,
            "rules_yaml": text,
            "digest": digest,
        }
        await publish(bus, codec, [Output(RULES, project, "control_rules", value)])
        return AppliedRules(project, revision, changed=True)

    return await asked(bootstrap, "publishing the rules", say)


async def drift_now(bootstrap: str) -> list[Drift]:
    """Return what runs otherwise than declared. Raises ``ApplyFailed``."""

    async def read(bus: KafkaBus, codec: Codec) -> list[Drift]:
        topics = (CHARTERS, POLICIES, BUDGETS, BUDGET_STATES, CONTROLS)
        newest = {topic: await newest_of(bus, codec, topic) for topic in topics}
        return drifts(newest, time.time_ns() // 1000)

    return await asked(bootstrap, "reading what is declared and what runs", read)


def drifts(newest: Mapping[str, Mapping[str, Mapping[str, Any]]], now_us: int) -> list[Drift]:
    """Return the differences between the newest events of each topic: what is declared, and what says that it runs."""
    found: list[Drift] = []
    for key, charter in sorted(newest[CHARTERS].items()):
        policy = newest[POLICIES].get(key)
        if policy is None or policy["charter_digest"] != charter["digest"]:
            running = "no policy" if policy is None else f"policy of revision {policy['charter_revision']}"
            since = time_text(charter["occurred_at"])
            found.append(Drift("charter", key, f"revision {charter['revision']}", running, since))
    for key, policy in sorted(newest[POLICIES].items()):
        if key not in newest[CHARTERS]:
            found.append(Drift("charter", key, "nothing", f"policy version {policy['policy_version']}", None))
    for instance, state in sorted(newest[BUDGET_STATES].items()):
        budget = newest[BUDGETS].get(f"{state['project']}/{state['budget']}")
        if budget is not None and not budget["ended"] and state["revision"] != budget["revision"]:
            declared, running = f"revision {budget['revision']}", f"revision {state['revision']}"
            found.append(Drift("budget", instance, declared, running, time_text(budget["occurred_at"])))
    for held in held_now(newest[CONTROLS], now_us):
        if held.kind != "hands off":
            running = f"{held.kind} {', '.join(held.arms)} ({held.by or held.owner})".replace("  ", " ")
            place = f"{held.project}/{held.feature}"
            found.append(Drift("control", place, "the policy decides", running, None))
    return found


def items_of(*, disable: Sequence[str], pin: str | None, pause: bool) -> tuple[Item, ...]:
    """Return what a person wants in force."""
    wanted: list[Item] = []
    if disable:
        wanted.append(Item("new", "disable", tuple(disable)))
    if pin:
        wanted.append(Item("new", "pin", (pin,)))
    if pause:
        wanted.append(Item("new", "pause"))
    return tuple(wanted)
