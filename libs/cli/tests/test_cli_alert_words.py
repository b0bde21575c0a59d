"""``flywheel alerts ack``, ``resolve``, ``silence``: what a person says, as it goes on the topics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flywheel.cli.alert_words import Word, checked, firing_alerts, readable_silences, said_of, the_silence
from flywheel.cli.letter_views import since_us, until_us
from flywheel.cli.main import cli
from flywheel.cli.publishing import ApplyFailed
from flywheel.cli.questions import Rows
from flywheel.control import Silence
from flywheel.events import Codec, LocalRegistry
from flywheel.incident import Episode

T = 1_795_222_800_000_000
MINUTE = 60_000_000
ALERT = Episode(
    "acme", "a1", T, T + MINUTE, None, "error_rate", "critical", subject="acme/answers", title="answers: errors",
    value=0.5, threshold=0.01, scope={"feature": "answers"}, attributes={"observed": "0.5", "since": "then"},
)  # fmt: skip
CODEC = Codec(LocalRegistry.load())
WINDOW = Silence("acme", "abc1", 5, T, T, T + MINUTE, "ana", "moving", features=("answers",))


def flywheel(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="flywheel")


def test_a_word_is_a_report_of_the_alert_that_says_by_whom_and_until_when() -> None:
    said = said_of(ALERT, Word("acknowledged", "ana", "on it", T + 90 * MINUTE), T + 2 * MINUTE)
    value = CODEC.decode(CODEC.encode("alert", said.value)).value
    assert (said.topic, said.key) == ("alerts", "acme/answers")
    assert (value["alert_id"], value["state"], value["severity"]) == ("a1", "acknowledged", "critical")
    assert value["attributes"] == {
        "observed": "0.5", "since": "then", "by": "ana", "note": "on it", "until": "2026-11-21T02:30:00.000000Z",
    }  # fmt: skip
    again = said_of(ALERT, Word("acknowledged", "ana"), T + 3 * MINUTE)
    assert again.value["event_id"] != value["event_id"] and "note" not in again.value["attributes"]
    over = said_of(ALERT, Word("resolved", ""), T)
    assert over.value["state"] == "resolved" and over.value["attributes"]["resolved_because"] == "a person said so"


class Standing:
    """ClickHouse as far as a look-up of alerts sees it: rows for what begins with an id, rows for a cause."""

    def __init__(self, by_id: list[tuple[str, str]], by_cause: list[tuple[str, str]]) -> None:
        self.by_id, self.by_cause = by_id, by_cause

    def __call__(self, query: str) -> Rows:
        found = self.by_id if "startsWith" in query else self.by_cause
        rows = [[state, "acme", name, T, T, None, "k", "info", 1, "s", *[None] * 10] for state, name in found]
        return Rows((), (), rows)


def test_a_name_means_an_alert_or_everything_that_fires_about_a_cause() -> None:
    causes = [("firing", "a1"), ("acknowledged", "a2"), ("resolved", "a3"), ("over", "a4")]

    def named(by_id: Any, by_cause: Any, name: str = "x") -> list[str]:
        return [each.alert_id for each in firing_alerts(Standing(by_id, by_cause), name, None)]

    assert named([("firing", "a1")], causes) == ["a1"]
    assert named([], causes) == ["a1", "a2"]
    for by_id, by_cause, why in [
        ([], [], "no alert x is recorded"),
        ([("firing", "a1"), ("firing", "a2")], [], "the beginning of 2 alerts"),
        ([("resolved", "a1")], causes, "nothing fires that x means"),
    ]:
        with pytest.raises(RuntimeError, match=why):
            named(by_id, by_cause)


def test_a_silence_is_named_by_the_beginning_of_its_id_while_it_holds() -> None:
    other = replace(WINDOW, silence_id="abd2", starts_us=T + 10, ends_us=T + 90)
    known = readable_silences({each.key: each.event() for each in (WINDOW, other)} | {"x": WINDOW.event() | {"by": ""}})
    assert the_silence(known[:2], "abd", T).silence_id == "abd2"
    for name, at_us, why in (("ab", T, "of 2 silences"), ("abd", T + 90, "no silence that holds"), ("", T, "no sil")):
        with pytest.raises(ApplyFailed, match=why):
            the_silence(known[:2], name, at_us)
    broken = {"k": WINDOW.event() | {"revision": 0}}
    assert readable_silences(broken) == []


def test_what_nobody_would_take_is_not_published() -> None:
    assert checked(WINDOW) == WINDOW
    with pytest.raises(ApplyFailed, match="features"):
        checked(replace(WINDOW, features=("",)))


def test_times_from_now_and_ago() -> None:
    assert until_us("90m", T) - T == T - since_us("90m", T) == 90 * MINUTE
    assert until_us("2026-11-21T01:00:00Z", 0) == since_us("2026-11-21T01:00:00", 0) == T


@pytest.mark.parametrize("wrong", [
    ("silence", "--until", "2h", "--reason", "r"),
    ("silence", "--all", "--feature", "f", "--until", "2h", "--reason", "r"),
    ("silence", "--all", "--until", "2h"),
    ("silence", "--all", "--reason", "r"),
    ("silence", "--all", "--until", "soon", "--reason", "r"),
    ("silence", "--all", "--until", "2020-01-01", "--reason", "r"),
    ("silence", "--all", "--from", "3h", "--until", "2h", "--reason", "r"),
    ("ack", "a", "--until", "2020-01-01"),
    ("ack",),
    ("unsilence",),
])  # fmt: skip
def test_a_command_line_that_makes_no_sense(wrong: tuple[str, ...]) -> None:
    assert flywheel("alerts", *wrong).exit_code == 2


def test_without_kafka_it_says_so_in_one_line() -> None:
    for command in (("silences",), ("unsilence", "x"), ("silence", "--all", "--until", "2h", "--reason", "r")):
        answer = flywheel("alerts", *command, "--kafka", "127.0.0.1:9")
        assert answer.exit_code == 1 and "127.0.0.1:9" in answer.stderr and len(answer.stderr.splitlines()) == 1
