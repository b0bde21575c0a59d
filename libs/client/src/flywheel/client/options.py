"""How a client behaves, in one frozen value."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Mode = Literal["remote", "in_process"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything a client can be told. Addresses default to ``FLYWHEEL_INGEST_URL`` and ``FLYWHEEL_ROUTER_URL``."""

    project: str = "default"
    ingest_url: str = field(default_factory=lambda: os.environ.get("FLYWHEEL_INGEST_URL", "http://127.0.0.1:8081"))
    router_url: str = field(default_factory=lambda: os.environ.get("FLYWHEEL_ROUTER_URL", "http://127.0.0.1:8082"))
    app: str | None = None
    environment: str | None = None
    team: str | None = None
    mode: Mode = "remote"
    """``remote`` asks the router for each decision; ``in_process`` follows its policies and decides here."""
    decide_timeout_s: float = 0.25
    """How long ``decide`` may keep its caller waiting before it falls back."""
    retry_router_after_s: float = 1.0
    """After three failures in a row the router is not asked for so long; ``decide`` falls back at once."""
    raise_errors: bool = False
    """True: errors reach the caller. False: they are counted and logged, and the caller goes on."""
    user_hash_key: bytes | None = field(default=None, repr=False)
    """Users are hashed here with this key; without it they are sent as they are, over your own network, and hashed
    there."""
    buffer_events: int = 10_000
    buffer_bytes: int = 16 << 20
    """Most events, and most bytes of them, that wait in memory."""
    spill_dir: Path | None = None
    """Where events wait when memory is full or a service is away; None: beyond the memory they are dropped and
    counted."""
    spill_bytes: int = 256 << 20
    """Most bytes that wait there; beyond it new events are dropped and counted."""
    batch_events: int = 500
    linger_s: float = 0.2
    """How long an event may wait for others to be sent with."""
    send_timeout_s: float = 10.0
    exit_deadline_s: float = 3.0
    """How long the exit of the process may be held up to send what waits; the rest is spilled."""

    def __post_init__(self) -> None:
        if self.mode not in ("remote", "in_process"):
            raise ValueError(f"mode: {self.mode!r} is neither 'remote' nor 'in_process'")
        for name in ("buffer_events", "buffer_bytes", "batch_events", "decide_timeout_s", "send_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: must be positive, not {getattr(self, name)!r}")
        if self.user_hash_key == b"":
            raise ValueError("user_hash_key: must not be empty")
