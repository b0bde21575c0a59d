"""A trace goes through the router: its span continues the caller's, the record of the decision continues the span."""

from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from router_parts import bench, policy, request

from flywheel.events import header
from flywheel.observe.traces import recording_provider
from flywheel_router.reading import RequestInvalid
from flywheel_router.service import trace_id_of

CALLER = f"00-{'ab' * 16}-{'cd' * 8}-01"


async def test_the_span_of_a_decision_continues_the_callers_trace(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    provider = recording_provider("router", exporter)
    async with bench(tmp_path) as router:
        router.publish(policy())
        router.parts.service._tracer = provider.get_tracer("flywheel")
        reply = await router.http.post("/v1/decide", json=request(1), headers={"traceparent": CALLER})
        with pytest.raises(RequestInvalid):
            router.parts.service.decide({}, None, "http")
        (event,) = await router.sent()
        sent = header(router.producer.sent[0].headers, "traceparent")
    provider.force_flush()
    good, bad = exporter.get_finished_spans()
    assert good.context is not None
    assert good.parent is not None
    assert (f"{good.context.trace_id:032x}", f"{good.parent.span_id:016x}") == ("ab" * 16, "cd" * 8)
    assert sent == f"00-{'ab' * 16}-{good.context.span_id:016x}-01"
    assert event["trace_id"] == "ab" * 16
    assert dict(good.attributes or {})["decision_id"] == reply.json()["decision_id"]
    assert not bad.status.is_ok
    provider.shutdown()


@pytest.mark.parametrize(
    "text", [None, "", "00", f"00-{'0' * 32}-{'c' * 16}-01", f"00-{'AB' * 16}-{'c' * 16}-01", f"{CALLER}\n", "x" * 55]
)
def test_a_malformed_traceparent_is_no_trace(text: str | None) -> None:
    assert trace_id_of(text) is None
    assert trace_id_of(CALLER) == "ab" * 16
