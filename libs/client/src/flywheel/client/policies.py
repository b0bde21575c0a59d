"""The policies of a project, followed from the router, so that deciding needs no network."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Final

import httpx
import orjson

from flywheel.control import ControlBoard, ControlInvalid
from flywheel.policy import CompiledPolicy, compile_policy

_log = logging.getLogger("flywheel.client")
_WAIT_S: Final = 20.0
_LONGEST_PAUSE_S: Final = 5.0


class PolicyFollower:
    """Keeps the newest policies in memory with a thread that long-polls ``GET /v1/policies``.

    While the router is away what is held stays in force; policies say themselves when they are too old to be used.
    """

    def __init__(self, router_url: str, project: str, transport: httpx.BaseTransport | None) -> None:
        self._url = f"{router_url.rstrip('/')}/v1/policies"
        self._project = project
        self._transport = transport
        self._reset()

    def _reset(self) -> None:
        self._policies: Mapping[str, CompiledPolicy] = {}
        self._controls = ControlBoard()
        self._budgeted = False
        self._loaded = threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def load(self, wait_s: float) -> None:
        """Begin to follow; until the router has answered once, wait ``wait_s`` seconds for it."""
        if not self._loaded.is_set():
            self._start()
            self._loaded.wait(wait_s)

    def get(self, feature: str) -> CompiledPolicy | None:
        """The policy of a feature, under the controls in force."""
        return self._controls.apply(self._policies.get(feature), time.time_ns() // 1000)

    @property
    def serves(self) -> bool:
        """Whether any feature of the project has a policy."""
        return bool(self._policies)

    @property
    def budgeted(self) -> bool:
        """Whether decisions of the project are held by budgets, whose leases only the router has."""
        return self._budgeted

    @property
    def loaded(self) -> bool:
        """Whether the router answered at least once."""
        return self._loaded.is_set()

    def forget_parent(self) -> None:
        """In a child after ``fork``: keep what is known, follow anew."""
        known, controls, budgeted = self._policies, self._controls, self._budgeted
        self._reset()
        self._policies, self._controls, self._budgeted = known, controls, budgeted

    def stop(self) -> None:
        """Stop following; a poll under way ends with the process."""
        self._stop.set()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="flywheel-policies", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        tag: str | None = None
        pause_s = 0.0
        with httpx.Client(timeout=_WAIT_S + 10, transport=self._transport, trust_env=False) as client:
            while not self._stop.wait(pause_s):
                try:
                    tag = self._poll(client, tag)
                    pause_s = 0.0
                except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                    if pause_s == 0:
                        _log.warning("reading policies from %s: %s; keeping those held", self._url, error)
                    pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s or 0.1)

    def _poll(self, client: httpx.Client, tag: str | None) -> str | None:
        started_s = time.monotonic()
        params = {"project": self._project, "wait_s": str(_WAIT_S if tag else 0)}
        reply = client.get(self._url, params=params, headers={"if-none-match": tag} if tag else {})
        if reply.status_code == 304:
            if time.monotonic() - started_s < 0.5:  # something between us does not let a request wait
                self._stop.wait(0.5)
            return tag
        reply.raise_for_status()
        answer = orjson.loads(reply.content)
        events = answer["policies"]
        controls = ControlBoard()
        for event in answer.get("controls", ()):
            try:
                controls.update(event)
            except (ControlInvalid, KeyError, TypeError) as error:
                _log.warning("a control cannot be used: %s", error)
        compiled: dict[str, CompiledPolicy] = {}
        for event in events:
            try:
                compiled[event["feature"]] = compile_policy(event)
            except (ValueError, KeyError, TypeError) as error:
                _log.warning("policy of %s cannot be used: %s", event.get("feature"), error)
                if (held := self._policies.get(event.get("feature"))) is not None:
                    compiled[event["feature"]] = held
        self._policies, self._controls, self._budgeted = compiled, controls, answer.get("budgeted") is True
        self._loaded.set()
        found: str | None = reply.headers.get("etag")
        return found
