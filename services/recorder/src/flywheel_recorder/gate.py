"""Which queries may run at all, decided on the engine's own parse of them, never on their text.

The rights of a reader are the engine's affair: its connection has ``readonly = 1`` and a role that may read the views.
The gate closes what those two leave open in an embedded engine: statements of control (``SYSTEM``, ``KILL``, ``SET
ROLE``), results written to files, several statements at once, and the functions that reach outside the database.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

REACHING_OUTSIDE: Final = frozenset(
    {
        "catboostevaluate",
        "file",
        "filesystemavailable",
        "filesystemcapacity",
        "filesystemunreserved",
        "generateserialid",
        "getserversetting",
        "processes",
        "python",
        "reversednsquery",
        "showcertificate",
        "user_processes",
    }
)
"""What reads files, the network, the machine, this process or other readers' queries: functions and tables, in lower
case; the engine's AI functions come on top."""

READONLY: Final = 164
SYNTAX_ERROR: Final = 62
NOT_IMPLEMENTED: Final = 48

_DESCRIBING: Final = re.compile(
    r"(?:DESCRIBE TABLE|SHOW CREATE (?:TABLE|VIEW)|EXISTS (?:TABLE|VIEW|DATABASE)|SHOW FUNCTIONS)"
    r"(?: [\w.`]+)?(?: FORMAT (?P<format>\w+))?"
)
"""Statements whose parse the engine does not show: allowed in exactly this normal form, which has no expressions."""


@dataclass(frozen=True, slots=True)
class Passed:
    """The query may run; ``format`` is the one it asks for itself."""

    format: str | None


@dataclass(frozen=True, slots=True)
class Turned:
    """The query may not run: ClickHouse's code, its name, and why."""

    code: int
    name: str
    message: str


def judge(tree: Mapping[str, Any], denied: Collection[str]) -> Passed | Turned:
    """Decide on a query that reads, from its syntax tree as ``parseQueryToJSON`` gives it.

    Args:
        tree: the syntax tree.
        denied: names, in lower case, that may not occur in it: as a function, or anywhere a function might be named.
    """
    for key, text in _words(tree):
        if key == "out_file":
            return Turned(READONLY, "READONLY", "INTO OUTFILE is not available here: the client has the result")
        if text.lower() in denied:
            return Turned(READONLY, "READONLY", f"{text} is not available to readers")
    asked = tree.get("format_ast")
    return Passed(str(asked["name"]) if isinstance(asked, dict) else None)


def judge_describing(normal: str) -> Passed | Turned:
    """Decide on a statement that only describes, from its normal form as ``formatQuerySingleLine`` gives it."""
    match = _DESCRIBING.fullmatch(normal.strip())
    if match is None:
        return Turned(NOT_IMPLEMENTED, "NOT_IMPLEMENTED", "this kind of statement is not available here")
    return Passed(match.group("format"))


def _words(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in the tree that is not a literal's value, with the key it stands under; ``out_file`` as itself."""
    if isinstance(node, dict):
        if node.get("type") == "Literal":
            return
        for name, child in node.items():
            if name == "out_file":
                yield name, ""
            yield from _words(child, name)
    elif isinstance(node, list):
        for child in node:
            yield from _words(child, key)
    elif isinstance(node, str):
        yield key, node
