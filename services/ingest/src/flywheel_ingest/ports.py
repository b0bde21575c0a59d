"""What ingest needs of the outside, as types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flywheel_ingest.core import Fact
from flywheel_ingest.items import Kind


class LogAway(Exception):
    """The log of facts did not acknowledge in time. What was sent may or may not be in it."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("the log did not acknowledge in time")
        self.retry_after_s = retry_after_s


class FactLog(Protocol):
    """Where facts go."""

    async def write(self, kind: Kind, facts: Sequence[Fact], traceparent: str | None) -> None:
        """Return only when every fact, and its content, is durable. Raises ``LogAway``."""
