"""The rules that come with the package."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from flywheel.control.rules import Tree, parse_rules


def default_rules_text() -> str:
    """Return the default rules as they are written."""
    return files("flywheel.control").joinpath("default_rules.yaml").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def default_rules() -> Tree:
    """Return the default rules."""
    return parse_rules(default_rules_text())
