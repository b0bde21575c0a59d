"""``flywheel control``, ``changes`` and ``rollback``: what is in force, what was changed, what runs otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flywheel.cli import rolling_back
from flywheel.cli.controlling import check_arms, drifts, held_now, next_record
from flywheel.cli.main import cli
from flywheel.cli.publishing import ApplyFailed
from flywheel.cli.questions import Rows
from flywheel.cli.rolling_back import Filters, changes, quoted, roll_back
from flywheel.control import Item, Record
from flywheel.control.shipped import default_rules_text

T = 1_795_222_800_000_000
OURS = Record("acme", "f", "controller", 5, T, (Item("a", "disable", ("x",), T + 100, "errors"),))
MINE = Record("acme", "f", "person", 3, T, (Item("m", "pin", ("y",)),), T + 50, by="ana", reason="told to")


def flywheel(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="flywheel")


def held(*records: Record, at: int = T) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(one.owner, one.kind, one.arms) for one in held_now({r.key: r.event() for r in records}, at)]


def test_what_is_in_force_is_the_persons_word_then_the_controllers() -> None:
    assert held(OURS, MINE) == [("person", "pin", ("y",))]
    assert held(OURS, MINE, at=T + 60) == [("controller", "disable", ("x",))]
    assert held(OURS, MINE, at=T + 100) == []
    assert held(OURS, replace(MINE, items=())) == [("person", "hands off", ())]
    assert held(OURS, replace(MINE, lifted=True)) == [("controller", "disable", ("x",))]
    broken = OURS.event() | {"owner": "cat"}
    assert held_now({"k": broken}, T) == []


def test_a_persons_next_word_is_newer_and_has_ids_of_its_own() -> None:
    made = next_record(replace(MINE, items=(Item("new", "pin", ("y",)), Item("new", "pause"))), MINE.event(), T)
    assert made.revision == T and len({item.control_id for item in made.items}) == 2
    late = next_record(MINE, replace(MINE, revision=T + 5).event(), T)
    assert late.revision == T + 6  # a clock that went back does not make it older
    with pytest.raises(ApplyFailed, match="--hands-off"):
        next_record(replace(MINE, lifted=True), None, T)
    with pytest.raises(ApplyFailed, match="no arm y; it has x, z"):
        check_arms(MINE, {"arms": [{"name": "x"}, {"name": "z"}]})


def test_rules_are_checked_with_line_and_field(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(flywheel("control", "rules", "default").stdout)
    assert file.read_text() == default_rules_text()
    assert json.loads(flywheel("control", "rules", "check", str(file), "--json").stdout)["rules"][0] == "errors"
    file.write_text(default_rules_text().replace("above: 1.8", "abov: 1.8"))
    result = flywheel("control", "rules", "check", str(file))
    assert (
        result.exit_code == 1
        and f"{file}:20: rules.1.when.change.abov: unknown field; did you mean above?" in result.stderr
    )
    assert flywheel("control", "rules", "apply", str(file)).exit_code == 1


@pytest.mark.parametrize(
    "wrong", [(), ("--hands-off", "--pause"), ("--pin", "a", "--for", "soon"), ("--pin", "a", "--for", "0s")]
)
def test_a_command_line_that_makes_no_sense(wrong: tuple[str, ...]) -> None:
    assert flywheel("control", "set", "f", *wrong).exit_code == 2


def test_drift_is_what_runs_otherwise_than_declared() -> None:
    charter = {"digest": "new", "revision": 2, "occurred_at": T}
    newest: dict[str, dict[str, dict[str, Any]]] = {
        "charters": {"acme/f": charter, "acme/g": charter, "acme/same": charter},
        "policies": {
            "acme/f": {"charter_digest": "old", "charter_revision": 1, "policy_version": 9},
            "acme/same": {"charter_digest": "new", "charter_revision": 2, "policy_version": 9},
            "acme/lost": {"charter_digest": "old", "charter_revision": 1, "policy_version": 7},
        },
        "budgets": {"acme/day": {"ended": False, "revision": 3, "occurred_at": T}},
        "budget-states": {"acme/day/u": {"project": "acme", "budget": "day", "revision": 2}},
        "controls": {OURS.key: OURS.event()},
    }
    found = [(d.what, d.subject, d.declared, d.running) for d in drifts(newest, T)]
    assert found == [
        ("charter", "acme/f", "revision 2", "policy of revision 1"),
        ("charter", "acme/g", "revision 2", "no policy"),
        ("charter", "acme/lost", "nothing", "policy version 7"),
        ("budget", "acme/day/u", "revision 3", "revision 2"),
        ("control", "acme/f", "the policy decides", "disable x (controller)"),
    ]
    assert drifts({topic: {} for topic in newest}, T) == []


class Answers:
    """ClickHouse as far as these commands see it: rows for what a query begins with."""

    def __init__(self, change: dict[str, Any] | None, newest: int, before: dict[str, Any] | None) -> None:
        self.change, self.newest, self.before, self.asked = change, newest, before, []

    def __call__(self, url: str, query: str) -> Rows:
        self.asked.append(query)
        found = {"max": {"m": self.newest}}.get("max") if "max(revision)" in query else None
        row = found or (self.change if "v_changes" in query else self.before)
        return Rows(tuple(row or ()), (), [list(row.values())] if row else [])


CHANGE = {"change_id": "c", "project": "acme", "what": "charter", "subject": "f", "revision": 4, "by": ""}


@pytest.mark.parametrize(("change", "newest", "before", "why"), [
    (None, 0, None, "no change c is recorded"),
    (CHANGE | {"what": "action"}, 4, None, "roll back the charter or control it made"),
    (CHANGE | {"what": "budget"}, 4, None, "apply its file as it was"),
    (CHANGE | {"what": "silence"}, 4, None, "flywheel alerts unsilence"),
    (CHANGE, 5, None, "revision 5 of f came after 4"),
    (CHANGE, 4, None, "nothing to go back to"),
    (CHANGE, 4, {"revision": 3, "charter_yaml": "feature: 1"}, "is no charter any more"),
    (CHANGE | {"what": "control", "by": "controller"}, 4, None, "--hands-off"),
])  # fmt: skip
def test_what_cannot_be_rolled_back_says_why(
    monkeypatch: pytest.MonkeyPatch, change: Any, newest: int, before: Any, why: str
) -> None:
    monkeypatch.setattr(rolling_back, "ask", Answers(change, newest, before))
    with pytest.raises(ApplyFailed, match=why):
        roll_back("u", "k", "c", by="ana", older_too=False)


def test_the_log_is_asked_for_what_was_named_and_text_stays_text(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(CHANGE, 4, None)
    monkeypatch.setattr(rolling_back, "ask", answers)
    assert changes("u", Filters(subject="o'neil\\", limit=3)) == [CHANGE]
    assert "WHERE subject = 'o\\'neil\\\\' ORDER BY" in answers.asked[0] and answers.asked[0].endswith("LIMIT 3")
    assert quoted("x' OR 1 --") == "'x\\' OR 1 --'"
