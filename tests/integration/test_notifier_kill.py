"""The notifier on a real broker, killed while a post is in the air and in the middle of its batches: every alert
arrives at every destination, and whatever arrives twice has the same key and the same bytes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flywheel.events import Codec, LocalRegistry, event_id, topics
from flywheel.local.topic_admin import create_topics
from flywheel.stream import KafkaBus, Output, Publisher

pytest_plugins = ["flywheel.local.fixtures"]
pytestmark = pytest.mark.broker
CODEC = Codec(LocalRegistry.load())
PATIENCE_S = 400.0
"""With a busy machine; nothing is held against it but that it comes at all."""
NAMES = tuple(f"a{number:02}" for number in range(24))
RESOLVED = NAMES[::3]
DESTINATIONS = """destinations:
  first: {{kind: webhook, url: "http://127.0.0.1:{port}/first", repeat: 1d}}
  second: {{kind: webhook, url: "http://127.0.0.1:{port}/second", repeat: 1d}}
"""


class Receiver:
    """Two destinations on one port. While ``victim`` is set, the request that makes ``kill_at`` zero kills that process
    with -9 before it is answered; ``down`` answers 503."""

    def __init__(self) -> None:
        self.taken: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
        self.down: set[str] = set()
        self.victim: int | None = None
        self.kill_at = 0

    def take(self, path: str, key: str, raw: bytes) -> int:
        if path in self.down:
            return 503
        self.taken[path].append((key, raw))
        if self.victim is not None:
            self.kill_at -= 1
            if self.kill_at == 0:
                os.kill(self.victim, signal.SIGKILL)
                self.victim = None
        return 200

    def reasons(self, path: str) -> dict[str, list[str]]:
        """Of each alert the reasons that arrived, in order; a repeat of a message counts once."""
        found: dict[str, list[str]] = defaultdict(list)
        for _, raw in dict(self.taken[path]).items():
            for told in json.loads(raw)["alerts"]:
                found[told["alert_id"]].append(told["reason"])
        return found


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, int]]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            status = made.take(self.path, self.headers["idempotency-key"], raw)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made, server.server_address[1]
    server.shutdown()
    server.server_close()


def alert(name: str, state: str) -> Output:
    at_us = time.time_ns() // 1000
    value = {
        "event_id": event_id("alert", name, state), "alert_id": name, "project": "acme", "occurred_at": at_us,
        "kind": "error_rate", "severity": "critical", "state": state, "scope": {"feature": f"f-{name}"},
        "subject": name, "title": name, "value": 0.2, "threshold": 0.01,
    }  # fmt: skip
    return Output("alerts", name, "alert", value)


async def start(bootstrap: str, folder: Path, faults: str) -> asyncio.subprocess.Process:
    environment = os.environ | {
        "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap, "FLYWHEEL_STATE_DIR": str(folder / "state"), "FLYWHEEL_OPS_PORT": "0",
        "FLYWHEEL_DESTINATIONS_FILE": str(folder / "destinations.yaml"), "FLYWHEEL_TICK_S": "0.1",
        "FLYWHEEL_WAIT_S": "0.2", "FLYWHEEL_SETTLE_S": "0.2",
    }  # fmt: skip
    if faults:
        environment |= {"FLYWHEEL_TESTING": "1", "FLYWHEEL_FAULTS": faults}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flywheel_notifier", env=environment, stdout=asyncio.subprocess.DEVNULL
    )


async def test_killed_anywhere_every_alert_arrives_with_one_key(
    private_kafka: Callable[..., Any], tmp_path: Path, receiver: tuple[Receiver, int]
) -> None:
    hooks, port = receiver
    (tmp_path / "destinations.yaml").write_text(DESTINATIONS.format(port=port))
    bootstrap = private_kafka().bootstrap
    await create_topics(bootstrap, topics().values())
    publisher = Publisher(KafkaBus(bootstrap), CODEC, source="test")
    await publisher.start()
    hooks.down = {"/second"}
    killed = 0
    # Killed by its own hand with the positions just kept, then twice while a post is in the air, then left in peace.
    for number, how in enumerate(("after_effect:1=crash", 2, 3, "")):
        process = await start(bootstrap, tmp_path, how if isinstance(how, str) else "")
        try:
            if isinstance(how, int):
                hooks.kill_at, hooks.victim = how, process.pid
            await publisher.publish([alert(name, "firing") for name in NAMES[number * 6 : number * 6 + 6]])
            if how:
                async with asyncio.timeout(PATIENCE_S):
                    killed += await process.wait() == -signal.SIGKILL
                continue
            hooks.down = set()
            await arrived(hooks, NAMES)
            await publisher.publish([alert(name, "resolved") for name in RESOLVED])
            await arrived(hooks, NAMES, over=RESOLVED)
        finally:
            if process.returncode is None:
                process.terminate()
                async with asyncio.timeout(120):
                    await process.wait()
    await publisher.stop()
    assert killed == 3
    for path in ("/first", "/second"):
        by_key: dict[str, set[bytes]] = defaultdict(set)
        for key, raw in hooks.taken[path]:
            by_key[key].add(raw)
        assert all(len(bodies) == 1 for bodies in by_key.values()), "what came again was the same"
        for name in NAMES:
            assert hooks.reasons(path)[name] == (["firing", "resolved"] if name in RESOLVED else ["firing"])
    assert len(hooks.taken["/first"]) > len(dict(hooks.taken["/first"])), "a post that was in the air came again"


async def arrived(hooks: Receiver, names: tuple[str, ...], over: tuple[str, ...] = ()) -> None:
    """Wait until both destinations were told of all of these alerts, and of the end of some."""
    async with asyncio.timeout(PATIENCE_S):
        while not all(
            set(names) <= found.keys() and all("resolved" in found[name] for name in over)
            for found in (hooks.reasons("/first"), hooks.reasons("/second"))
        ):
            await asyncio.sleep(0.3)
