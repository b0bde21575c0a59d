"""Finding a change in the log of changes, and publishing what was declared before it again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flywheel.cli.controlling import apply_rules, say_control
from flywheel.cli.publishing import ApplyFailed, apply_charter
from flywheel.cli.questions import ask
from flywheel.control import Record
from flywheel.policy import CharterInvalid, parse_charter
from flywheel.store import quoted

_COLUMNS: Final = "change_id, toString(occurred_at) AS occurred_at, project, what, subject, revision, by, said"


_OTHERWISE: Final[Mapping[str, str]] = {
    "action": "an action: roll back the charter or control it made",
    "budget": "a budget: apply its file as it was",
    "silence": "a silence: flywheel alerts unsilence ends it",
}
"""What is not taken back by publishing it again, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which changes; None: all."""

    project: str | None = None
    subject: str | None = None
    what: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What was published: the revision that now stands, with the text of an older one."""

    what: str
    subject: str
    revision: int
    as_of_revision: int
    change_id: str


def changes(url: str, filters: Filters) -> list[dict[str, Any]]:
    """Return changes, the newest first. Raises ``QueryFailed``."""
    wanted = {"project": filters.project, "subject": filters.subject, "what": filters.what}
    parts = [f"{column} = {quoted(value)}" for column, value in wanted.items() if value is not None]
    where = f"WHERE {' AND '.join(parts)} " if parts else ""
    query = f"SELECT {_COLUMNS} FROM v_changes {where}ORDER BY occurred_at DESC, change_id LIMIT {filters.limit}"
    return ask(url, query).dicts()


def roll_back(url: str, bootstrap: str, change_id: str, *, by: str, older_too: bool) -> RolledBack:
    """Publish what was declared before a change again, as a new change.

    Raises:
        QueryFailed: ClickHouse does not answer.
        ApplyFailed: there is no such change, nothing before it, something after it, or Kafka does not answer.
    """
    found = ask(url, f"SELECT {_COLUMNS} FROM v_changes WHERE change_id = {quoted(change_id)} LIMIT 1").dicts()
    if not found:
        raise ApplyFailed(f"no change {change_id} is recorded; see flywheel changes")
    change = found[0]
    if change["what"] in _OTHERWISE:
        raise ApplyFailed(f"{change_id} is {_OTHERWISE[str(change['what'])]}")
    newest = _newest(url, change)
    if newest != change["revision"] and not older_too:
        raise ApplyFailed(
            f"revision {newest} of {change['subject']} came after {change['revision']}: rolling back would lose it; "
            "name that change, or give --older-too"
        )
    return _published(url, bootstrap, change, by)


def _newest(url: str, change: Mapping[str, Any]) -> Any:
    same = f"project = {quoted(change['project'])} AND what = {quoted(change['what'])}"
    owner = f"AND by != 'controller' AND subject = {quoted(change['subject'])}"
    return ask(url, f"SELECT max(revision) FROM v_changes WHERE {same} {owner}").scalar()


def _published(url: str, bootstrap: str, change: Mapping[str, Any], by: str) -> RolledBack:
    project, subject, revision = str(change["project"]), str(change["subject"]), int(change["revision"])
    what = str(change["what"])
    if what == "charter":
        where = f"project = {quoted(project)} AND feature = {quoted(subject)} AND revision < {revision}"
        row = _newest_row(url, "v_charters", "charter_yaml", where)
        text = str(row["charter_yaml"])
        try:
            charter = parse_charter(text)
        except CharterInvalid as error:
            raise ApplyFailed(f"revision {row['revision']} of {subject} is no charter any more: {error}") from error
        applied = asyncio.run(apply_charter(bootstrap, charter, text, by=by))
        return RolledBack(what, subject, applied.revision, int(row["revision"]), str(change["change_id"]))
    if what == "rules":
        where = f"project = {quoted(project)} AND revision < {revision}"
        row = _newest_row(url, "v_control_rules", "rules_yaml", where)
        rules = asyncio.run(apply_rules(bootstrap, project, str(row["rules_yaml"])))
        return RolledBack(what, subject, rules.revision, int(row["revision"]), str(change["change_id"]))
    if change["by"] == "controller":
        raise ApplyFailed(
            f"the controller said that: flywheel control set {subject} --hands-off ends what it has there"
        )
    # What a person had in force before is over or was replaced on purpose: without the change, nothing is.
    wanted = Record(project, subject, "person", 1, 0, (), lifted=True, by=by)
    said = asyncio.run(say_control(bootstrap, wanted))
    return RolledBack(what, subject, said.revision, 0, str(change["change_id"]))


def _newest_row(url: str, view: str, column: str, where: str) -> dict[str, Any]:
    query = f"SELECT revision, {column} FROM {view} WHERE {where} ORDER BY revision DESC LIMIT 1"
    rows = ask(url, query).dicts()
    if not rows:
        raise ApplyFailed("nothing was declared before it: there is nothing to go back to")
    return rows[0]
