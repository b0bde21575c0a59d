"""What a fault proxy does to the connections that run through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules of a ``FaultProxy``; requests go to the target, replies come from it.

    ``hold_requests`` or ``hold_replies`` alone makes a connection half open: both sides believe in it, one hears
    nothing. What was held is passed on when the rule is gone, so the stream of bytes stays whole.

    Raises:
        ValueError: a delay is negative.
    """

    delay_requests_s: float = 0.0
    delay_replies_s: float = 0.0
    hold_requests: bool = False
    hold_replies: bool = False
    refuse: bool = False
    """New connections are reset."""

    def __post_init__(self) -> None:
        for name in ("delay_requests_s", "delay_replies_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: must not be negative")


PASS: Final = Rules()
"""Forward everything at once."""
