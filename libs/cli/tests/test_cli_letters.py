"""What `flywheel dlq` says and refuses, without a broker."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from flywheel.cli.letter_views import groups, line, since_us, whole, without_content
from flywheel.cli.main import cli
from flywheel.events import Codec, LocalRegistry
from flywheel.events.examples import examples
from flywheel.stream.letters import read_letter, standings

codec = Codec(LocalRegistry.load())
LETTER = examples("dead_letter")["undecodable"]


def standing(**changes: Any) -> Any:
    value = codec.decode(codec.encode("dead_letter", LETTER | changes)).value
    return standings([read_letter(value)], [])[0]


def flywheel(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["dlq", *arguments])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("replay",), "name letters"),
        (("drop", "--yes"), "name letters"),
        (("replay", "abcdef", "--topic", "t"), "not both"),
        (("show", "abc"), "too short"),
        (("list", "--since", "yesterday"), "neither 90m"),
        (("replay", "abcdef", "--max", "0"), "0 is not in the range"),
    ],
)
def test_a_command_line_that_makes_no_sense_ends_with_2(arguments: tuple[str, ...], why: str) -> None:
    result = flywheel(*arguments)
    assert result.exit_code == 2 and why in result.output


def test_kafka_away_is_one_line() -> None:
    result = flywheel("list", "--kafka", "127.0.0.1:1")
    assert result.exit_code == 1 and "is the system up?" in result.output and "Traceback" not in result.output


@pytest.mark.parametrize("command", ["list", "show", "replay", "drop"])
def test_every_command_explains_itself_and_speaks_json(command: str) -> None:
    result = flywheel(command, "--help")
    assert result.exit_code == 0 and "--json" in result.output


def test_times() -> None:
    now = 1_795_219_200_000_000
    assert [now - since_us(t, now) for t in ("90s", "2m", "1h", "1d")] == [x * 10**6 for x in (90, 120, 3600, 86400)]
    assert since_us("1970-01-01", now) == 0 == since_us("1970-01-01T01:00:00+01:00", now)


def test_letters_alike_are_counted_together() -> None:
    found = [standing(event_id="a"), standing(event_id="b", occurred_at=5), standing(event_id="c", field="x")]
    counted = {(g.field, g.letters, g.open, g.oldest[:4]) for g in groups(found)}
    assert counted == {(None, 2, 2, "1970"), ("x", 1, 1, "2026")}
    assert len(line(standing(detail="x" * 900))["detail"]) == 200


def test_content_is_shown_only_when_asked_for() -> None:
    for name, value in examples("call_content").items():
        framed = codec.encode("call_content", value)
        texts = [
            field["name"] for field in codec.schema("call_content")["fields"] if field.get("pii") in ("raw", "redact")
        ]
        found = standing(value=framed, source_topic="llm-content")
        hidden = whole(found, codec, content=False)["value"]
        assert texts and all(hidden[t] is None or "hidden" in hidden[t] for t in texts), name
        assert whole(found, codec, content=True)["value"] == codec.decode(framed).value
    assert without_content({"undeclared": "text"}, {"fields": []})["undeclared"].endswith("shows it)")


def test_a_preview_is_bounded_and_steers_no_terminal() -> None:
    junk = b"\x1b[2Jclear" + b"x" * 5000
    hidden = whole(standing(value=junk), codec, content=False)["preview"]
    clear = whole(standing(value=junk), codec, content=True)["preview"]
    assert hidden == {"bytes": 5009, "hex": junk[:5].hex(), "hidden": "--content shows more"}
    assert len(clear["hex"]) == 512 and "\x1b" not in clear["text"]
    assert "text" in whole(standing(value=junk, source_topic="charters"), codec, content=False)["preview"]
    assert whole(standing(value=None), codec, content=False)["value"] is None
