"""``flywheel frontier``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import click

from flywheel.cli.addresses import current_addresses
from flywheel.cli.output import cell, console, fail, json_option, print_json, table
from flywheel.cli.publishing import ApplyFailed, asked, newest_of

_SIDES = (("quality", "quality"), ("cost_usd", "cost USD"), ("latency_ms", "latency ms"))


@click.command()
@click.argument("feature")
@click.option("--project", default="default", show_default=True)
@click.option("--kafka", help="Kafka brokers, host:port; default: the running system's.")
@json_option
def frontier(feature: str, project: str, kafka: str | None, as_json: bool) -> None:
    """Show what the arms of FEATURE trade off: quality, cost and latency with 95 % intervals, which arms are on the
    Pareto front, and what constraints make of them."""
    bootstrap, key = kafka or current_addresses().kafka, f"{project}/{feature}"
    try:
        found = asyncio.run(
            asked(bootstrap, "reading the policies", lambda bus, codec: newest_of(bus, codec, "policies"))
        )
    except ApplyFailed as error:
        fail(str(error))
    if key not in found:
        fail(f"no policy for {key}; publish a charter: flywheel charter apply FILE")
    shown = frontier_of(found[key])
    if as_json:
        print_json(shown)
        return
    out = console()
    out.print(f"{key} version {shown['policy_version']}")
    out.print(
        table(["arm", "share", *(title for _, title in _SIDES), "front", "charge", "constraints"], arm_rows(shown))
    )
    if shown["prices"]:
        out.print(table(["constraint", "price", "used", "expected", "target", "bound"], price_rows(shown)))


def frontier_of(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a ``policy`` event says of the front: its arms, each with its standing, and its prices."""
    shares = {arm["name"]: (arm["propensity"], arm["enabled"]) for arm in policy["arms"]}
    arms = [
        {**standing, "propensity": shares[standing["name"]][0], "enabled": shares[standing["name"]][1]}
        for standing in policy["standings"]
    ]
    kept = ("project", "feature", "policy_version", "occurred_at")
    return {**{name: policy[name] for name in kept}, "arms": arms, "prices": policy["prices"]}


def arm_rows(shown: Mapping[str, Any]) -> list[list[Any]]:
    """Return a row for each arm; the rest of what is measured stands with what constraints say."""
    rows = []
    for arm in shown["arms"]:
        known = {each["measure"]: each for each in arm["measures"]}
        said = []
        if arm["breaks"] is not None:
            said.append(f"breaks {arm['breaks']}")
        if arm["unproven"] is not None:
            said.append(f"{arm['unproven']} not proven: explored only")
        said += [f"{name} {_interval(each)}" for name, each in known.items() if name not in dict(_SIDES)]
        front = "yes" if arm["efficient"] else "no"
        if arm["dominated_by"]:
            front = f"no, proven by {', '.join(arm['dominated_by'])}"
        sides = [_interval(known[name]) if name in known else None for name, _ in _SIDES]
        rows.append([arm["name"], arm["propensity"], *sides, front, arm["charge"], "; ".join(said)])
    return rows


def price_rows(shown: Mapping[str, Any]) -> list[list[Any]]:
    """Return a row for each constraint that has a price, all in the measure's unit a request."""
    return [
        [f"{price['constraint']} ({price['measure']})", _short(price["price"])]
        + [_short(price[name]) for name in ("used", "expected", "target", "bound")]
        for price in shown["prices"]
    ]


def _interval(each: Mapping[str, Any]) -> str:
    return f"{_short(each['mean'])} ({_short(each['low'])} – {_short(each['high'])})"


def _short(value: float) -> str:
    return cell(float(f"{value:.3g}")) if abs(value) >= 0.01 or value == 0 else f"{value:.3g}"
