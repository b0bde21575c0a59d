"""The registry REST API, a registry elsewhere, and the CloudEvents envelope."""

from __future__ import annotations

import json

import httpx
import pytest
from starlette.testclient import TestClient

from flywheel.events import Codec, LocalRegistry, UnknownSchema, header, headers, load_registry
from flywheel.events.declarations import SchemaVersion, topics, versions
from flywheel.events.remote import RemoteRegistry
from flywheel.events.rest import registry_app

FEEDBACK = {"event_id": "f1", "project": "acme", "request_id": "r1", "occurred_at": 1, "kind": "user.thumb"}


@pytest.fixture
def api() -> TestClient:
    return TestClient(registry_app(LocalRegistry.load()))


def test_a_consumer_finds_the_schema_of_a_frame(api: TestClient) -> None:
    codec = Codec(LocalRegistry.load())
    schema_id = int.from_bytes(codec.encode("feedback", FEEDBACK)[1:5], "big")
    assert json.loads(api.get(f"/schemas/ids/{schema_id}").json()["schema"]) == codec.schema("feedback")


def test_subjects_are_named_after_their_topics(api: TestClient) -> None:
    assert api.get("/subjects").json() == sorted(f"{t}-value" for t in topics())
    latest = api.get("/subjects/llm-calls-value/versions/latest").json()
    assert (latest["id"], latest["schemaType"]) == (37, "AVRO")
    assert api.get("/subjects/llm-calls-value/versions").json() == [1, 2, 3]
    assert api.get("/subjects/llm-calls-value/versions/3").json() == latest
    assert api.get("/").json() == {}
    assert api.get("/schemas/types").json() == ["AVRO"]
    assert api.get("/config").json() == api.get("/config/x-value").json() == {"compatibilityLevel": "FULL_TRANSITIVE"}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/subjects/nope-value/versions", 404, 40401),
        ("/subjects/nope-value/versions/1", 404, 40401),
        ("/subjects/llm-calls-value/versions/99", 404, 40402),
        ("/subjects/llm-calls-value/versions/first", 422, 42202),
        ("/schemas/ids/4242", 404, 40403),
    ],
)
def test_errors_carry_the_registrys_codes(api: TestClient, path: str, status: int, code: int) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.json()["error_code"]) == (status, code)


def test_schemas_change_by_deploy_not_by_request(api: TestClient) -> None:
    assert api.post("/subjects/llm-calls-value/versions", json={"schema": "{}"}).status_code == 403


class FakeRegistry:
    """A registry that numbers schemas from 500, over httpx's own transport."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.asked: list[str] = []
        self.down = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if self.down:
            raise httpx.ConnectError("refused")
        if request.method == "POST":
            text = json.loads(request.content)["schema"]
            return httpx.Response(200, json={"id": self.ids.setdefault(text, 500 + len(self.ids))})
        by_id = {i: text for text, i in self.ids.items()}
        found = by_id.get(int(request.url.path.rsplit("/", 1)[1]))
        return httpx.Response(200, json={"schema": found}) if found else httpx.Response(404)


def _remote(fake: FakeRegistry, now: list[float]) -> RemoteRegistry:
    client = httpx.Client(base_url="http://registry", transport=httpx.MockTransport(fake))
    return RemoteRegistry(url="http://registry", released=versions(), client=client, clock=lambda: now[0])


def test_with_a_registry_its_ids_go_on_the_wire() -> None:
    codec = Codec(_remote(FakeRegistry(), [0.0]))
    framed = codec.encode("feedback", FEEDBACK)
    assert int.from_bytes(framed[1:5], "big") >= 500
    assert codec.decode(framed).value["kind"] == "user.thumb"


def test_a_newer_version_registered_elsewhere_is_fetched_once_and_read() -> None:
    fake, now = FakeRegistry(), [0.0]
    registry = _remote(fake, now)
    newer = registry.newest("feedback").avsc
    newer["fields"].append({"name": "mood", "type": ["null", "string"], "default": None, "doc": "New."})
    text = json.dumps(newer, separators=(",", ":"))
    producer = Codec(LocalRegistry([SchemaVersion("feedback", 2, 900, text)]))
    framed = producer.encode("feedback", FEEDBACK | {"mood": "good"})
    consumer = Codec(registry)
    with pytest.raises(UnknownSchema):
        consumer.decode(framed)
    fake.ids[text] = 900
    with pytest.raises(UnknownSchema):  # asked a moment ago: not asked again yet
        consumer.decode(framed)
    now[0] = 10.0
    value = consumer.decode(framed).value
    assert "mood" not in value
    assert value["kind"] == "user.thumb"
    consumer.decode(framed)
    assert fake.asked.count("/schemas/ids/900") == 2


def test_a_registry_that_is_away_is_waited_for() -> None:
    fake, now = FakeRegistry(), [0.0]
    registry = _remote(fake, now)
    fake.down = True
    assert registry.by_id(77) is None
    assert registry.all()


def test_a_schema_of_another_system_is_not_ours() -> None:
    fake = FakeRegistry()
    registry = _remote(fake, [0.0])
    fake.ids['{"type":"record","name":"Alien","fields":[]}'] = 901
    assert registry.by_id(901) is None


def test_the_pinned_ids_are_used_unless_a_registry_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCHEMA_REGISTRY_URL", raising=False)
    assert isinstance(load_registry(), LocalRegistry)


def test_the_envelope_is_cloudevents_in_binary_mode() -> None:
    made = dict(
        headers(
            event="llm_call",
            event_id="e1",
            source="ingest",
            occurred_at_us=1_795_219_200_000_001,
            traceparent="00-a-b-01",
        )
    )
    assert made == {
        "ce_specversion": b"1.0",
        "ce_id": b"e1",
        "ce_type": b"flywheel.llm_call",
        "ce_source": b"flywheel/ingest",
        "ce_time": b"2026-11-21T00:00:00.000001Z",
        "content-type": b"application/avro",
        "traceparent": b"00-a-b-01",
    }
    assert "ce_time" not in dict(headers(event="llm_call", event_id="e1", source="ingest"))


def test_a_header_is_read_as_text_or_not_at_all() -> None:
    assert header([("a", b"1"), ("a", b"2")], "a") == "1"
    assert header([("a", b"\xff")], "a") is None
    assert header([], "a") is None
