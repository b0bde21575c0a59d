"""``flywheel policy show`` and ``flywheel policy features``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import click
import httpx
import orjson

from flywheel.cli.addresses import current_addresses
from flywheel.cli.output import console, fail, json_option, print_json, table
from flywheel.policy.importance import FeatureImportance, Importance, NothingToTell, Share, importance


@click.group()
def policy() -> None:
    """Look at the policies in force."""


@policy.command()
@click.argument("feature")
@click.option("--project", default="default", show_default=True)
@click.option("--url", help="Address of the router; default: the running system's.")
@json_option
def show(feature: str, project: str, url: str | None, as_json: bool) -> None:
    """Show the arms of FEATURE: what is believed of each, and how often it is chosen when all are eligible."""
    found = _policy_of(feature, project, url)
    if as_json:
        print_json(found)
        return
    out = console()
    out.print(
        f"{found['project']}/{found['feature']} version {found['policy_version']}: {found['kind']}, "
        f"{found['outcomes']} outcomes, default {found['default_arm']}, floor {found['explore_floor']:g}, "
        f"charter revision {found['charter_revision']}"
    )
    rows = [
        [
            arm["name"],
            arm["model"],
            arm["enabled"],
            arm["mean"],
            arm["variance"] ** 0.5,
            arm["weight"],
            arm["propensity"],
        ]
        for arm in found["arms"]
    ]
    out.print(table(["arm", "model", "enabled", "mean reward", "± sd", "weight", "propensity"], rows))
    if found.get("trials"):
        out.print(table(["arm", "outcomes", "mean", "beaten by", "evidence", "needed", "out"], _trials(found)))


@policy.command()
@click.argument("feature")
@click.option("--project", default="default", show_default=True)
@click.option("--url", help="Address of the router; default: the running system's.")
@click.option("--effects", is_flag=True, help="Also by how much each feature moves each arm's expected reward.")
@json_option
def features(feature: str, project: str, url: str | None, effects: bool, as_json: bool) -> None:
    """Show which context features of FEATURE matter to the choice of its arms.

    A feature's share is that of the variance, over contexts, of the arms' expected rewards about their mean: what it
    explains alone, and what only it explains. The favourite is the arm with the largest expected reward.
    """
    found = _policy_of(feature, project, url)
    try:
        told = importance(found)
    except NothingToTell as error:
        fail(f"{project}/{feature}: {error}")
    if as_json:
        names = ("project", "feature", "policy_version", "kind")
        print_json({**{name: found[name] for name in names}, **dataclasses.asdict(told)})
        return
    out = console()
    out.print(
        f"{project}/{feature} version {found['policy_version']}: over contexts an arm's expected reward lies "
        f"± {told.spread:.3g} about the mean of {', '.join(told.arms)}"
    )
    if told.left_out:
        out.print(f"left out, hardly known or switched off: {', '.join(told.left_out)}")
    out.print(table(["feature", "kind", "alone", "beyond the others", "favourite changes"], _matters(told)))
    if effects:
        out.print(table(["feature", "slot", "arm", "reward moves", "± sd"], _moves(told)))


def _policy_of(feature: str, project: str, url: str | None) -> Mapping[str, Any]:
    found = find_policy(read_policies(url or current_addresses().router, project), feature)
    if found is None:
        fail(f"no policy for {project}/{feature}; publish a charter: flywheel charter apply FILE")
    return found


def _trials(found: Mapping[str, Any]) -> list[list[object]]:
    return [
        [
            each["name"], each["outcomes"], each["mean"], each["beaten_by"], f"{each['log_evidence']:.2f}",
            f"{each['needed']:.2f}", each["out"],
        ]
        for each in found["trials"]
    ]  # fmt: skip


def _matters(told: Importance) -> list[list[object]]:
    def largest(feature: FeatureImportance) -> float:
        return -feature.alone.value

    return [
        [each.name, each.kind, _share(each.alone), _share(each.beyond), f"{each.changes_favourite:.1%}"]
        for each in sorted(told.features, key=largest)
    ]


def _moves(told: Importance) -> list[list[object]]:
    return [
        [each.name, effect.slot, effect.arm, f"{effect.change:+.4f}", f"{effect.sd:.4f}"]
        for each in told.features
        for effect in each.effects
    ]


def _share(share: Share) -> str:
    return f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"


def read_policies(router_url: str, project: str) -> list[Mapping[str, Any]]:
    """Every policy of a project that the router holds."""
    try:
        reply = httpx.get(f"{router_url}/v1/policies", params={"project": project}, timeout=10)
    except httpx.HTTPError as error:
        fail(f"asking the router at {router_url}: {error}; is the system up? (flywheel up)")
    if reply.status_code != 200:
        fail(f"asking the router at {router_url}: HTTP {reply.status_code}: {reply.text[:200]}")
    policies: list[Mapping[str, Any]] = orjson.loads(reply.content)["policies"]
    return policies


def find_policy(policies: list[Mapping[str, Any]], feature: str) -> Mapping[str, Any] | None:
    return next((found for found in policies if found["feature"] == feature), None)
