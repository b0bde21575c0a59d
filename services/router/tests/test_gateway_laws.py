"""Laws of the gateway's pure parts: circuits, what follows a failed attempt, streams cut anywhere, providers."""

from __future__ import annotations

import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.pricing import bundled_prices
from flywheel.testkit.provider_bodies import chat_chunks, message_events
from flywheel.testkit.provider_server import events_of
from flywheel_router.gateway.charging import estimated
from flywheel_router.gateway.circuits import Circuit, CircuitRules
from flywheel_router.gateway.planning import FREE, RetryRules, Tried, ending_of_status, next_attempt, outcome_of
from flywheel_router.gateway.providers import ProvidersInvalid, read_providers
from flywheel_router.gateway.streams import ChatReader, EventTooLong, MessageReader, Splitter, Tally

RULES = CircuitRules(window_s=10.0, least_attempts=4, error_rate=0.5, open_s=5.0, most_open_s=40.0, successes=2)
OUTCOMES = st.sampled_from(["ok", "error", "timeout", "neutral"])


def fail(circuit: Circuit, now_s: float, times: int = 4):
    """Make attempts that fail; the last change they made."""
    change = None
    for _ in range(times):
        circuit.begin(now_s)
        change = circuit.end("error", 10.0, now_s) or change
    return change


def test_a_circuit_opens_at_the_rate_and_not_below_the_least_number():
    circuit = Circuit(RULES)
    assert fail(circuit, 0.0, 3) is None and circuit.admits(0.0)
    change = fail(circuit, 0.0, 1)
    assert (change.before, change.after, change.reason, change.attempts) == ("closed", "open", "error_rate", 4)
    assert not circuit.admits(4.9) and circuit.admits(5.0)


def test_half_as_many_failures_as_the_rate_open_nothing_and_old_ones_are_forgotten():
    circuit = Circuit(RULES)
    for number in range(100):
        circuit.begin(number * 0.01)
        assert circuit.end("error" if number % 3 == 2 else "ok", 5.0, number * 0.01) is None
    assert fail(circuit, 11.5, 3) is None, "what is older than the window does not count"


def test_a_probe_that_fails_opens_for_twice_as_long_and_good_ones_close():
    circuit = Circuit(RULES)
    fail(circuit, 0.0)
    now_s, lasted = 0.0, []
    for _ in range(5):
        before_s, now_s = now_s, circuit.retry_at_s
        lasted.append(now_s - before_s)
        assert circuit.begin(now_s).after == "half_open" and not circuit.admits(now_s), "one probe at a time"
        assert circuit.end("timeout", 1.0, now_s).reason == "probe_failed"
    assert lasted == [5.0, 10.0, 20.0, 40.0, 40.0]
    now_s = circuit.retry_at_s
    assert circuit.begin(now_s).after == "half_open"
    assert circuit.end("ok", 1.0, now_s) is None and circuit.admits(now_s)
    circuit.begin(now_s)
    assert circuit.end("ok", 1.0, now_s).reason == "recovered"
    fail(circuit, now_s)
    assert circuit.retry_at_s == now_s + 5.0, "after it recovered the wait is short again"


def test_timeouts_and_the_99th_percentile_open_it_too():
    slow = Circuit(CircuitRules(p99_ms=100.0, least_attempts=10))
    changes = []
    for number in range(200):
        slow.begin(0.0)
        changes.append(slow.end("ok", 1000.0 if number % 20 == 0 else 10.0, 0.0))
    (change,) = [each for each in changes if each is not None]
    assert change.reason == "p99" and 900 < change.p99_ms < 1200
    late = Circuit(CircuitRules(timeout_rate=0.3, error_rate=0.9, least_attempts=10))
    ended = []
    for number in range(10):
        late.begin(0.0)
        ended.append(late.end("timeout" if number % 3 == 0 else "ok", 10.0, 0.0))
    assert ended[-1].reason == "timeouts"


@given(st.lists(st.tuples(OUTCOMES, st.floats(0, 3)), max_size=200))
def test_a_circuit_only_ever_admits_what_its_state_allows(steps):
    circuit, now_s = Circuit(RULES), 0.0
    for outcome, passed_s in steps:
        now_s += passed_s
        if not circuit.admits(now_s):
            assert circuit.state == "open" and now_s < circuit.retry_at_s
            continue
        before = circuit.state
        change = circuit.begin(now_s)
        assert (change is not None) == (before == "open")
        if circuit.state == "half_open":
            assert not circuit.admits(now_s)
        ended = circuit.end(outcome, 10.0, now_s)
        if ended is not None:
            assert ended.before != ended.after and 0 <= ended.timeout_rate <= ended.error_rate <= 1
        if ended is not None and ended.after == "open":
            assert RULES.open_s - 1e-9 <= circuit.retry_at_s - now_s <= RULES.most_open_s + 1e-9


@given(st.lists(st.floats(1, 500_000), min_size=20, max_size=60))
def test_a_percentile_is_off_by_no_more_than_a_bucket(latencies):
    circuit = Circuit(CircuitRules())
    for each in latencies:
        circuit.end("ok", each, 0.0)
    true = sorted(latencies)[math.ceil(0.95 * len(latencies)) - 1]
    assert true <= circuit.percentile_ms(0.95, 0.0) * 1.0000001 <= true * 1.1500001


ENDINGS = st.sampled_from(
    ["connect", "rate_limited", "server_error", "timeout", "broken", "refused", "invalid", "unavailable", "cancelled"]
)


@given(st.data(), st.booleans(), st.floats(0, 30), st.floats(0, 1, exclude_max=True))
def test_attempts_end_and_never_do_harm(data, reserved, left_s, uniform):
    arms, most, per_arm = (data.draw(st.integers(1, highest)) for highest in (5, 6, 3))
    rules = RetryRules(most_attempts=most, tries_per_arm=per_arm)
    tried = [Tried(0, data.draw(ENDINGS), data.draw(st.floats(0, 60)))]
    while True:
        admitted = data.draw(st.lists(st.booleans(), min_size=arms, max_size=arms))
        go = next_attempt(rules, tried, admitted, reserved=reserved, left_s=left_s, uniform=uniform)
        if go is None:
            break
        last = tried[-1]
        assert last.ending not in ("invalid", "cancelled") and admitted[go.arm]
        assert not reserved or last.ending in FREE, "one reservation pays one call"
        assert go.wait_s < left_s and go.wait_s <= rules.most_wait_s
        again = sum(each.arm == go.arm for each in tried)
        if again:
            assert go.arm == last.arm and again < per_arm and go.wait_s >= last.retry_after_s
            assert last.ending in ("connect", "rate_limited", "server_error")
        tried.append(Tried(go.arm, data.draw(ENDINGS), data.draw(st.floats(0, 60))))
        assert len(tried) <= most


@pytest.mark.parametrize(
    ("status", "ending"),
    [(400, "invalid"), (413, "invalid"), (422, "invalid"), (401, "refused"), (404, "refused"), (302, "refused"),
     (429, "rate_limited"), (408, "server_error"), (500, "server_error"), (529, "server_error")],
)  # fmt: skip
def test_what_a_status_means(status, ending):
    assert ending_of_status(status) == ending
    assert outcome_of(ending) == ("ok" if ending == "invalid" else "error")


ASKED = {"model": "m", "messages": [{"role": "user", "content": "a b c"}], "stream_options": {"include_usage": True}}


@given(st.data(), st.sampled_from(["chat", "messages"]), st.text(min_size=1, max_size=40))
def test_a_stream_says_the_same_wherever_its_bytes_are_cut(data, kind, text):
    text = " ".join(text.split()) or "x"
    made = chat_chunks if kind == "chat" else message_events
    whole = b"".join(made(ASKED, text, usage=True, finish_reason="stop"))
    reader = ChatReader(include_usage=True, keep_text=True) if kind == "chat" else MessageReader(keep_text=True)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=12)))
    splitter, out = Splitter(), []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        out += [reader.take(event) for event in splitter.feed(whole[start:end])]
    tally = reader.tally
    assert b"".join(out) == whole and splitter.rest == b"" and tally.complete
    assert "".join(tally.texts) == text and tally.text_bytes == len(text.encode())
    assert tally.usage["completion_tokens" if kind == "chat" else "output_tokens"] == len(text.split())


def test_usage_that_was_not_asked_for_is_taken_out_of_every_chunk():
    reader = ChatReader(include_usage=False, keep_text=False)
    out = [reader.take(event) for event in chat_chunks(ASKED, "one two", usage=True, finish_reason="stop")]
    kept = b"".join(each for each in out if each is not None)
    assert out.count(None) == 1 and b"usage" not in kept and len(list(events_of(kept))) == 4
    assert reader.tally.usage["completion_tokens"] == 2


def test_an_event_without_end_is_refused():
    with pytest.raises(EventTooLong):
        Splitter().feed(b"data: " + b"x" * (5 << 20))


@given(st.binary(max_size=200))
def test_no_bytes_of_a_provider_raise(raw):
    for reader in (ChatReader(include_usage=False, keep_text=True), MessageReader(keep_text=True)):
        for event in [
            *Splitter().feed(raw + b"\n\n"),
            b"data: " + orjson.dumps({"choices": [raw.hex(), {}]}) + b"\n\n",
        ]:
            reader.take(event)


def test_an_estimate_is_at_least_a_token_a_piece():
    assert estimated(Tally(text_bytes=9, pieces=7), 10) == {"uncached_input_tokens": 3, "visible_output_tokens": 7}
    assert estimated(Tally(text_bytes=90, pieces=7), 0)["visible_output_tokens"] == 23


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("providers: {a: {base_url: 'ftp://x'}}", "line 1: providers.a.base_url"),
        ("providers:\n  a: {base_url: 'http://x', keey: {env: A}}", "line 2: providers.a.keey"),
        ("providers:\n  a: {base_url: 'http://x', key: {env: NOT_SET}}", "line 2: providers.a.key: environment"),
        ("providers:\n  a: {base_url: 'http://x', key: {file: /nowhere/key}}", "providers.a.key: file /nowhere/key"),
        ("providers:\n  a: {base_url: 'http://x', headers: {authorization: b}}", "providers.a.headers.authorization"),
        ("providers:\n  A B: {base_url: 'http://x'}", "providers.A B: a name has"),
        ("providers:\n  a: {base_url: 'http://u:p@x'}", "providers.a.base_url"),
        ("[]", "expected a mapping"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_providers_file_is_named(text, told):
    def secret(kind, where):
        if kind == "env":
            raise KeyError(where)
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(ProvidersInvalid) as caught:
        read_providers(text, secret)
    assert told in str(caught.value)


def test_a_key_shows_in_no_repr():
    (provider,) = read_providers(
        "providers: {a: {base_url: 'http://x/v1/', key: {env: K}}}", lambda *_: "sk-1"
    ).values()
    assert "sk-1" not in repr(provider) and ("authorization", "Bearer sk-1") in provider.headers("chat")
    assert provider.url("chat") == "http://x/v1/chat/completions"


def test_prices_are_there_for_what_the_tests_call():
    book = bundled_prices()
    assert all(book.card("openai", model, 1_790_000_000_000_000) for model in ("gpt-4o", "gpt-4o-mini"))
