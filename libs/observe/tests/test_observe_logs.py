"""One JSON object a line on stderr, ids bound, secrets gone."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from flywheel.observe import configure_logging, log_context, logger, redact, secret_name


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_a_line_says_who_what_when_and_for_which_request(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("router")
    with log_context(request_id="r1", decision_id="d1"):
        logger("decide").bind(arm="cheap").info("decided", propensity=0.8)
    (line,) = lines(capsys)
    assert line.pop("time").endswith("Z")
    assert line == {
        "service": "router",
        "logger": "decide",
        "level": "info",
        "event": "decided",
        "arm": "cheap",
        "propensity": 0.8,
        "request_id": "r1",
        "decision_id": "d1",
    }


def test_lines_of_libraries_come_out_the_same_way_with_their_exception(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("ingest")
    try:
        raise KeyError("missing")
    except KeyError:
        logging.getLogger("some.library").exception("lost %s", "it", extra={"auth_token": "abc"})
    (line,) = lines(capsys)
    assert (line["service"], line["logger"], line["event"]) == ("ingest", "some.library", "lost it")
    assert "KeyError" in line["exception"]
    assert line["auth_token"] == "[redacted]"


def test_what_is_below_the_level_is_not_written_and_an_unknown_level_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("ingest", "warning")
    logger("a").info("quiet")
    logger("a").warning("loud")
    assert [line["event"] for line in lines(capsys)] == ["loud"]
    with pytest.raises(ValueError, match="log_level: 'chatty'"):
        configure_logging("ingest", "chatty")


def test_no_secret_reaches_stderr_however_it_is_passed(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("client")
    logger("http").warning(
        "failed with Bearer HUNTER2HUNTER2",
        api_key="HUNTER2",
        settings={"nested": [{"db_password": "HUNTER2"}]},
        headers=[("Authorization", "HUNTER2"), (b"x-api-key", b"HUNTER2")],
        wrapped=SecretStr("HUNTER2"),
        url="https://user:HUNTER2@example.org/",
        input_tokens=12,
    )
    err = capsys.readouterr().err
    assert "HUNTER2" not in err
    assert json.loads(err)["input_tokens"] == 12


def test_without_configuration_the_process_own_logging_decides_and_stdout_stays_clean(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logger("flywheel.client").warning("spilled", events=3)
    assert capsys.readouterr().out == ""
    assert caplog.records[0].name == "flywheel.client"


@pytest.mark.parametrize("name", ["api_key", "apiKey", "OPENAI_API_KEY", "key", "x-api-key", "token", "accessToken"])
def test_names_of_secrets(name: str) -> None:
    assert secret_name(name)


@pytest.mark.parametrize("name", ["Authorization", "db_password", "client-secret", "Set-Cookie", "aws_key_id"])
def test_more_names_of_secrets(name: str) -> None:
    assert secret_name(name)


@pytest.mark.parametrize(
    "name", ["input_tokens", "max_tokens", "tokenizer", "keyboard", "partition_key", "monkey", "arm"]
)
def test_names_that_only_look_like_secrets(name: str) -> None:
    assert not secret_name(name)


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)


@given(value=JSONISH, name=st.sampled_from(["password", "api_key", "auth_token"]))
def test_nothing_below_a_secret_name_survives(value: Any, name: str) -> None:
    redacted = redact({name: value})[name]
    assert redacted == ("[redacted]" if value is not None else None)


@given(value=JSONISH)
def test_redacting_twice_changes_nothing_more(value: Any) -> None:
    once = redact(value)
    assert redact(once) == once
