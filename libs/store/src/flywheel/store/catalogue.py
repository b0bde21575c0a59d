"""What analysts can read, as the database itself describes it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from flywheel.store.connection import DATABASE

TABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "llm_call": "llm_calls",
        "decision": "decisions",
        "feedback": "feedback",
        "evaluation": "evaluations",
        "outcome": "outcomes",
        "call_content": "call_content",
        "policy": "policies",
        "charter": "charters",
        "budget": "budgets",
        "budget_state": "budget_states",
        "alert": "alerts",
        "control": "controls",
        "silence": "silences",
        "action": "actions",
        "control_rules": "control_rules",
        "dead_letter": "dead_letters",
        "reprice": "reprices",
    }
)
"""The table of each recorded event. ``arm_summary`` is internal to the bandit, ``budget_entry`` and ``lease`` to the
budget service and those who hold money, ``control_entry`` to the controller, ``detection_entry`` to the detector: these
are not recorded."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column and what it means."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True, slots=True)
class View:
    """A view and what it holds."""

    name: str
    comment: str
    columns: tuple[Column, ...]


def views(client: Any) -> tuple[View, ...]:
    """Every documented view of the database, by name."""
    tables = client.query(
        f"SELECT name, comment FROM system.tables WHERE database = '{DATABASE}' AND engine = 'View' ORDER BY name"
    ).result_rows
    columns = client.query(
        f"SELECT table, name, type, comment FROM system.columns WHERE database = '{DATABASE}' ORDER BY table, position"
    ).result_rows
    return tuple(
        View(name, comment, tuple(Column(c[1], _one_line(c[2]), c[3]) for c in columns if c[0] == name))
        for name, comment in tables
    )


def table_columns(client: Any) -> dict[str, tuple[str, ...]]:
    """The names of the columns an insert may fill, by table."""
    rows = client.query(
        "SELECT table, groupArray(name) FROM (SELECT table, name FROM system.columns "
        f"WHERE database = '{DATABASE}' AND default_kind != 'MATERIALIZED' ORDER BY table, position) GROUP BY table"
    ).result_rows
    return {table: tuple(names) for table, names in rows if table in recorded_tables()}


@lru_cache(maxsize=1)
def recorded_tables() -> frozenset[str]:
    """The tables of facts."""
    return frozenset(TABLES.values())


def render(catalogue: Sequence[View]) -> str:
    """The views as a page of Markdown: what `python -m flywheel.store docs` prints."""
    lines = [
        "# Views for analysts",
        "",
        "Generated from the database by `python -m flywheel.store docs`; a test holds this page against it.",
        "Every row is there once. Times are UTC. Money is in US dollars, exact to 12 decimal places. Unknown is NULL.",
        "",
    ]
    for view in catalogue:
        lines += [f"## {view.name}", "", view.comment, "", "| column | type | meaning |", "|---|---|---|"]
        lines += [f"| {c.name} | {_cell(c.type)} | {_cell(c.comment)} |" for c in view.columns]
        lines.append("")
    return "\n".join(lines)


def _one_line(type_name: str) -> str:
    return re.sub(r"\(\s+", "(", re.sub(r"\s+", " ", type_name))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
