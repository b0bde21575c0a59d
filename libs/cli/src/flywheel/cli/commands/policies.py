"""``flywheel policy show``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import httpx
import orjson

from flywheel.cli.addresses import current_addresses
from flywheel.cli.output import console, fail, json_option, print_json, table


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
    found = find_policy(read_policies(url or current_addresses().router, project), feature)
    if found is None:
        fail(f"no policy for {project}/{feature}; publish a charter: flywheel charter apply FILE")
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
