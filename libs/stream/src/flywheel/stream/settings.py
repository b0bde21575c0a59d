"""What can be set of a runner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SESSION_TIMEOUT_S = 10.0
"""After this long without a heartbeat the group gives a member's partitions to others; set on every consumer."""
REBALANCE_TIMEOUT_S = 30.0
"""How long the group waits for a member to give up its partitions; set on every consumer."""


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """How the loop behaves; the defaults suit one process on a small machine.

    Raises:
        ValueError: a value makes no sense; the message begins with its name.
    """

    max_records: int = 5000
    """Records per poll over all partitions: bounds memory together with the broker's fetch size (4 MiB a partition)."""
    poll_ms: int = 50
    commit_every_s: float = 1.0
    """How often the group is told offsets."""
    revoke_within_s: float = 10.0
    """Shared by everything a revoke or a shutdown waits for; shorter than the rebalance timeout."""
    backoff_s: float = 0.2
    backoff_max_s: float = 10.0
    max_unsent_batches: int = 4
    """Batches of a shard that may wait for the broker's acknowledgement while the next one is folded."""
    stuck_after_s: float = 120.0
    """Records waiting and none finished for this long, or an event loop that does not turn: dump stacks and exit 1."""
    breaker_records: int = 1000
    """This many dead letters in a row stop their partition: one record per ``breaker_wait_s`` until one is good."""
    breaker_wait_s: float = 5.0
    synchronous: Literal["NORMAL", "FULL"] = "NORMAL"
    """SQLite's setting: NORMAL survives the death of the process, FULL that of the machine."""

    def __post_init__(self) -> None:
        for name in ("max_records", "poll_ms", "max_unsent_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1")
        for name in ("commit_every_s", "stuck_after_s", "backoff_s", "breaker_wait_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: must be above 0")
        if not 0 < self.revoke_within_s < REBALANCE_TIMEOUT_S:
            raise ValueError(
                f"revoke_within_s: must lie between 0 and the rebalance timeout, {REBALANCE_TIMEOUT_S:g} s"
            )
        if self.backoff_max_s < self.backoff_s:
            raise ValueError("backoff_max_s: must not be below backoff_s")
        if self.breaker_records < 0:
            raise ValueError("breaker_records: must not be negative")
        if self.synchronous not in ("NORMAL", "FULL"):
            raise ValueError(f"synchronous: {self.synchronous!r} is neither NORMAL nor FULL")
