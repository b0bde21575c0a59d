"""How messages are put and signed, and how destinations are declared."""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretBytes, SecretStr

from flywheel.observe import SettingsInvalid
from flywheel_notifier.core.destinations import Destination, DestinationsInvalid, read_destinations
from flywheel_notifier.core.forms import SLACK_BLOCKS, SLACK_TEXT, body_of, headers_of, url_of
from flywheel_notifier.core.standing import Ack, taken
from flywheel_notifier.core.telling import Message, Note
from flywheel_notifier.wiring import load_destinations

_spec = importlib.util.spec_from_file_location("notifier_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)
S, T0, report = parts.S, parts.T0, parts.report
HOSTILE = "<!channel> <https://evil|click> & \x1b[31m"
ATTRIBUTES = {"observed": "0.5", "expected": "0.01", "impact": "9 failed calls an hour", "changed_before": HOSTILE}


def message(*reasons: str, count: int = 1, **more: Any) -> Message:
    notes = []
    for number, reason in enumerate(reasons * count):
        alert = taken(None, report(f"a{number}", 0, attributes=ATTRIBUTES, **more), T0, 0)
        if reason == "resolved":
            alert = taken(alert, report(f"a{number}", 60, "resolved"), T0 + 60 * S, 0)
        notes.append(Note(f"n{number}", reason, alert, Ack(T0 + S, "warning", "ana")))  # type: ignore[arg-type]
    return Message("m1", "d", "acme/answers", T0 + 10 * S, tuple(notes))


def to(kind: str, **more: Any) -> Destination:
    return Destination(name="d", kind=kind, url=SecretStr("https://am.example.com/x/"), repeat_us=60 * S, **more)  # type: ignore[arg-type]


def test_a_webhook_is_told_everything_that_is_known() -> None:
    body = body_of(message("firing", "resolved"), to("webhook", link="https://look/{alert_id}"), T0)
    assert (body["message_id"], body["group"], body["made_at"]) == ("m1", "acme/answers", "2026-11-21T00:00:10.000000Z")
    first, second = body["alerts"]
    assert (first["reason"], first["state"], first["ended_at"]) == ("firing", "firing", None)
    assert (second["state"], second["ended_at"]) == ("resolved", "2026-11-21T00:01:00.000000Z")
    assert (first["value"], first["threshold"], first["attributes"]) == (0.5, 0.01, ATTRIBUTES)
    assert (first["acknowledged_by"], first["link"]) == ("ana", "https://look/a0")


def test_a_signature_is_that_of_standard_webhooks() -> None:
    secret = b"0123456789abcdef"
    body = json.dumps({"x": 1}).encode()
    found = headers_of(message("firing"), to("webhook", secret=SecretBytes(secret)), body, 1_700_000_000)
    expected = hmac.new(secret, b"m1.1700000000." + body, hashlib.sha256).digest()
    assert found["webhook-signature"] == "v1," + base64.b64encode(expected).decode()
    assert found["webhook-id"] == found["idempotency-key"] == "m1" and found["webhook-timestamp"] == "1700000000"
    plain = headers_of(message("firing"), to("slack", bearer=SecretStr("t")), body, 0)
    assert "webhook-signature" not in plain and plain["authorization"] == "Bearer t"


def test_slack_shows_texts_of_others_and_does_not_obey_them() -> None:
    body = body_of(message("firing", "resolved", title=HOSTILE, detail="d" * 5_000), to("slack"), T0)
    texts = [block["text"]["text"] for block in body["blocks"]]
    assert texts[0].startswith("*Firing* (warning) &lt;!channel&gt;") and "observed 0.5; expected 0.01" in texts[0]
    assert "*Resolved*" in texts[1]
    whole = json.dumps(body)
    assert "<!channel>" not in whole and "<https://evil" not in whole and "\\u001b" not in whole
    assert all(len(text) <= SLACK_TEXT for text in texts) and "and 1 more" in body["text"]
    many = body_of(message("firing", count=50), to("slack"), T0)
    assert len(many["blocks"]) == SLACK_BLOCKS + 1 and many["blocks"][-1]["elements"][0]["text"] == "and 5 more"


def test_an_alertmanager_is_told_as_its_interface_says() -> None:
    destination = to("alertmanager", link="https://look/{alert_id}")
    assert url_of(destination) == "https://am.example.com/x/api/v2/alerts"
    scope = {"feature": "answers", "user.id": "u", "1st": "x", "empty": ""}
    firing, over = body_of(message("firing", "resolved", scope=scope), destination, T0 + 100 * S)
    assert firing["labels"] == {
        "alertname": "error_rate", "severity": "warning", "project": "acme", "alert_id": "a0", "feature": "answers",
        "user_id": "u", "_1st": "x",
    }  # fmt: skip
    assert firing["annotations"]["summary"] == "answers: a0" and firing["annotations"]["observed"] == "0.5"
    assert firing["startsAt"] == over["startsAt"] == "2026-11-21T00:00:00.000000Z"
    assert firing["endsAt"] == "2026-11-21T00:05:40.000000Z", "four refreshes ahead"
    assert over["endsAt"] == "2026-11-21T00:01:00.000000Z" and firing["generatorURL"] == "https://look/a0"
    assert "generatorURL" not in body_of(message("firing"), to("alertmanager"), T0)[0]


# -- declared ----------------------------------------------------------------------------------------------------------

GOOD = """destinations:
  on-call:
    kind: webhook
    url: https://hooks.example.com/flywheel
    secret: {env: HOOK_SECRET}
    severity: warning
    only: {feature: answers, kind: [error_rate, latency]}
    repeat: 1h
  chat: {kind: slack, url: {env: SLACK_URL}}
  am: {kind: alertmanager, url: "http://am:9093", bearer: {env: AM_TOKEN}, link: "https://look/{alert_id}"}
"""
ENVIRON = {
    "HOOK_SECRET": "whsec_" + base64.b64encode(b"k" * 24).decode(), "SLACK_URL": "https://hooks.slack.com/T/B/x",
    "AM_TOKEN": "token", "SHORT": "short", "ODD": "whsec_***", "EMPTY": "",
}  # fmt: skip


def read(text: str) -> dict[str, Destination]:
    return read_destinations(text, lambda kind, where: ENVIRON[where])


def test_destinations_as_declared() -> None:
    found = read(GOOD)
    hook, chat, am = found["on-call"], found["chat"], found["am"]
    assert hook.secret is not None and hook.secret.get_secret_value() == b"k" * 24
    assert (hook.least, hook.features, hook.repeat_us) == ("warning", ("answers",), 3600 * S)
    assert chat.url.get_secret_value() == "https://hooks.slack.com/T/B/x" and chat.repeat_us == 14_400 * S
    assert am.refreshes and am.repeat_us == 60 * S and not chat.refreshes
    assert hook.wants("acme", "latency", "critical", {"feature": "answers"})
    assert not hook.wants("acme", "latency", "info", {"feature": "answers"})
    assert "hooks.slack" not in repr(found) and "token" not in repr(found)


@pytest.mark.parametrize(("change", "problem"), [
    (("kind: webhook", "kind: pager"), "line 3: destinations.on-call.kind"),
    (("https://hooks", "ftp://hooks"), "line 4: destinations.on-call.url: must be an http or https URL"),
    (("https://hooks", "https://user:pass@hooks"), "line 4: destinations.on-call.url"),
    (("https://hooks.example.com/flywheel", "https:///x"), "line 4: destinations.on-call.url"),
    (("https://hooks.example.com", "https://h:99999"), "line 4: destinations.on-call.url"),
    (("https://hooks.example.com", "file:///etc/passwd#"), "line 4: destinations.on-call.url"),
    (("HOOK_SECRET", "MISSING"), "destinations.on-call.secret: environment variable MISSING is not set"),
    (("HOOK_SECRET", "SHORT"), "destinations.on-call.secret: must be at least 16 bytes"),
    (("HOOK_SECRET", "ODD"), "destinations.on-call.secret: is no base64"),
    (("HOOK_SECRET", "EMPTY"), "environment variable EMPTY is empty"),
    (("repeat: 1h", "repeet: 1h"), "line 8: destinations.on-call.repeet: unknown field"),
    (("repeat: 1h", "repeat: often"), "line 8: destinations.on-call.repeat"),
    (("chat:", "Chat Room:"), "a name has lower-case letters"),
    (("{kind: slack,", "{kind: slack, secret: {env: HOOK_SECRET},"), "nothing signs what goes to slack"),
    (("{env: SLACK_URL}", "{env: SLACK_URL, file: x}"), "destinations.chat.url"),
    (("https://look/{alert_id}", "javascript:alert(1)"), "destinations.am.link"),
    ((GOOD, "destinations: {}"), "destinations"),
])  # fmt: skip
def test_what_is_wrong_is_told_by_line_and_field_and_no_secret_is(change: tuple[str, str], problem: str) -> None:
    with pytest.raises(DestinationsInvalid) as refused:
        read(GOOD.replace(*change))
    assert problem in str(refused.value), refused.value
    assert not any(secret in str(refused.value) for secret in ("whsec_*", "whsec_a", "hooks.slack.com", "user:pass"))


def test_a_file_that_cannot_be_read_names_the_setting(tmp_path: Path) -> None:
    secret, file = tmp_path / "secret", tmp_path / "destinations.yaml"
    assert load_destinations(None, {}) == {}
    with pytest.raises(SettingsInvalid, match=r"FLYWHEEL_DESTINATIONS_FILE.*No such file"):
        load_destinations(file, {})
    file.write_text(GOOD.replace("{env: HOOK_SECRET}", f'{{file: "{secret}"}}'))
    with pytest.raises(SettingsInvalid, match=r"secret: file .* No such file"):
        load_destinations(file, ENVIRON)
    secret.write_text("a secret of some length\n")
    found = load_destinations(file, ENVIRON)["on-call"].secret
    assert found is not None and found.get_secret_value() == b"a secret of some length"
