"""Silences: which alerts they are about, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.control import ControlInvalid, Silence, silenced_by
from flywheel.events import Codec, LocalRegistry
from flywheel.events.examples import examples

T = 1_795_222_800_000_000
SCOPE = {"feature": "answers", "arm": "strong", "provider": "openai", "model": "gpt-4o"}
WINDOW = Silence("acme", "w", 1, T, T + 100, T + 200, "ana", "moving", features=("answers",))
CODEC = Codec(LocalRegistry.load())


def under(*silences: Silence, at: int = T + 150, project: str = "acme", **scope: str) -> str | None:
    found = silenced_by(silences, project, "latency", "warning", {**SCOPE, **scope}, at_us=at)
    return None if found is None else found.silence_id


def test_it_holds_from_its_start_until_its_end_or_until_it_is_lifted() -> None:
    assert [under(WINDOW, at=T + at) for at in (99, 100, 199, 200)] == [None, "w", "w", None]
    lifted = replace(WINDOW, lifted=True, said_us=T + 150)
    assert [under(lifted, at=T + at) for at in (149, 150)] == ["w", None]


@pytest.mark.parametrize(("only", "held"), [
    ({}, True),
    ({"features": ("answers", "other")}, True),
    ({"features": ("other",)}, False),
    ({"models": ("gpt-4o",)}, True),
    ({"models": ("openai/gpt-4o",)}, True),
    ({"models": ("azure/gpt-4o",)}, False),
    ({"arms": ("strong",), "kinds": ("latency", "silence")}, True),
    ({"arms": ("strong",), "kinds": ("silence",)}, False),
    ({"severities": ("critical",)}, False),
])  # fmt: skip
def test_an_alert_must_fit_every_list_that_is_given(only: dict[str, Any], held: bool) -> None:
    assert (under(replace(WINDOW, **{"features": (), **only})) is not None) is held
    assert under(replace(WINDOW, **{"features": (), **only}), project="other") is None


def test_of_several_the_one_that_ends_last_is_named() -> None:
    longer = replace(WINDOW, silence_id="longer", ends_us=T + 300)
    assert under(WINDOW, longer) == under(longer, WINDOW) == "longer"


def test_an_alert_without_a_model_is_not_under_a_silence_of_a_model() -> None:
    assert silenced_by([replace(WINDOW, models=("",))], "acme", "k", "info", {"feature": "answers"}, at_us=T) is None


def test_the_event_reads_back_as_it_was() -> None:
    wire = CODEC.decode(CODEC.encode("silence", WINDOW.event())).value
    assert Silence.from_event(wire) == WINDOW
    for value in examples("silence").values():
        assert Silence.from_event(CODEC.decode(CODEC.encode("silence", value)).value).by == "ana"


@pytest.mark.parametrize(("field", "value"), [
    ("project", ""),
    ("silence_id", "a\\nb"),
    ("revision", 0),
    ("ends_at", T + 100),
    ("ends_at", T + 100 + 367 * 86_400_000_000),
    ("severities", ["fatal"]),
    ("features", [""]),
    ("kinds", ["x"] * 101),
])  # fmt: skip
def test_what_cannot_be_a_silence_is_refused_by_field(field: str, value: Any) -> None:
    value = value.replace("\\n", "\n") if isinstance(value, str) else value
    with pytest.raises(ControlInvalid) as refused:
        Silence.from_event(WINDOW.event() | {field: value})
    assert refused.value.field == field


@given(starts=st.integers(0, 50), length=st.integers(1, 50), said=st.integers(-10, 120), at=st.integers(-10, 120))
def test_lifting_only_ever_ends_a_silence(starts: int, length: int, said: int, at: int) -> None:
    before = Silence("acme", "w", 1, T, T + starts, T + starts + length)
    lifted = replace(before, lifted=True, said_us=T + said)
    assert not lifted.live(T + at) or before.live(T + at)
    assert not lifted.live(max(T + at, lifted.said_us))
