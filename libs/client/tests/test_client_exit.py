"""Real processes that end without saying goodbye, and policies followed over a real socket."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from flywheel.client import BudgetRefused, Flywheel
from flywheel.events import event_id

ENDS_WITHOUT_CLOSE = """
import sys
from pathlib import Path
from flywheel.client import Flywheel
flywheel = Flywheel(ingest_url=sys.argv[1], spill_dir=Path(sys.argv[2]), linger_s=60.0, exit_deadline_s=1.0)
with flywheel.call("support", model="openai/gpt-4o", request_id="r1"):
    pass
flywheel.feedback("r1", "user.thumb", 1.0)
if sys.argv[3] == "raise":
    raise RuntimeError("the program failed")
"""


class Service(ThreadingHTTPServer):
    """Takes every batch; serves policies."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.taken: list[dict[str, Any]] = []
        self.policies: list[dict[str, Any]] = []
        self.polls = 0
        self.broken = False
        self.budgeted = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/decide":
            refusal = {"reason": "budget_exhausted", "budget": "default/all", "errors": [{"message": "no room"}]}
            self.answer(402, orjson.dumps(refusal))
            return
        self.server.taken += orjson.loads(body)["items"]
        self.answer(200, b'{"items":[]}')

    def do_GET(self) -> None:
        self.server.polls += 1
        tag = f'"{len(self.server.policies)}{self.server.budgeted}"'
        if self.server.broken:
            self.answer(500, b"{}")
        elif self.headers.get("if-none-match") == tag:
            self.answer(304, b"", etag=tag)
        else:
            said = {"policies": self.server.policies, "budgeted": self.server.budgeted}
            self.answer(200, orjson.dumps(said), etag=tag)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def run(url: str, folder: Path, how: str) -> int:
    command = [sys.executable, "-c", ENDS_WITHOUT_CLOSE, url, str(folder), how]
    return subprocess.run(command, timeout=120, check=False, stderr=subprocess.DEVNULL).returncode


@pytest.mark.parametrize(("how", "status"), [("return", 0), ("raise", 1)])
def test_a_program_that_just_ends_has_its_events_sent(service: Service, tmp_path: Path, how: str, status: int) -> None:
    assert run(service.url, tmp_path, how) == status
    assert sorted(item.get("kind", "call") for item in service.taken) == ["call", "user.thumb"]


def test_a_program_that_ends_during_an_outage_leaves_its_events_for_the_next(service: Service, tmp_path: Path) -> None:
    assert run("http://127.0.0.1:1", tmp_path, "return") == 0
    with Flywheel(ingest_url=service.url, spill_dir=tmp_path) as client:
        assert client.flush()
    assert sorted(item.get("kind", "call") for item in service.taken) == ["call", "user.thumb"]


def policy(feature: str, **changes: Any) -> dict[str, Any]:
    arm = {
        "name": "only", "model": "openai/only", "prompt_name": None, "prompt_version": None, "params": {},
        "eligible_when": [], "enabled": True, "weight": 0.0, "mean": 0.5, "variance": 0.1, "alpha": 1.0, "beta": 1.0,
        "score": 0.0, "propensity": 1.0,
    }  # fmt: skip
    return {
        "event_id": event_id("policy", feature), "project": "default", "feature": feature, "occurred_at": 0,
        "policy_version": 1, "kind": "static", "charter_digest": "d", "charter_revision": 1, "default_arm": "only",
        "explore_floor": 0.0, "epsilon": 0.0, "stale_after_s": 0.0, "outcomes": 0, "arms": [arm], "context": [],
    } | changes  # fmt: skip


def test_policies_are_followed_and_kept_while_the_router_fails(service: Service, tmp_path: Path) -> None:
    service.policies = [policy("good"), policy("bad", default_arm="nobody")]
    with Flywheel(router_url=service.url, mode="in_process", decide_timeout_s=10.0, linger_s=0.01) as client:
        assert client.decide("good").reason == "policy"
        assert client.decide("bad", default_arm="mine").reason == "unknown_feature"
        service.broken = True
        polls = service.polls
        deadline_s = time.monotonic() + 20
        while service.polls < polls + 2 and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert client.decide("good").reason == "policy"
        assert client.flush()
    assert {item["reason"] for item in service.taken} == {"policy", "unknown_feature"}


def test_where_a_budget_holds_decisions_the_router_makes_them(service: Service) -> None:
    service.policies = [policy("good")]
    service.budgeted = True
    with Flywheel(router_url=service.url, mode="in_process", decide_timeout_s=10.0) as client:
        with pytest.raises(BudgetRefused) as refused:
            client.decide("good", input_tokens=10)
        assert refused.value.budget == "default/all"
        service.budgeted = False
        reason, deadline_s = "", time.monotonic() + 20
        while not reason and time.monotonic() < deadline_s:  # a poll says that the budget has ended
            with contextlib.suppress(BudgetRefused):
                reason = client.decide("good").reason
    assert reason == "policy"


def test_without_a_router_the_first_decision_waits_no_longer_than_told(tmp_path: Path) -> None:
    client = Flywheel(router_url="http://127.0.0.1:1", mode="in_process", decide_timeout_s=0.05, spill_dir=tmp_path)
    decision = client.decide("support", default_arm="mine")
    assert (decision.arm, decision.reason, decision.fallback) == ("mine", "no_policy", True)
    client.close(0.1)
