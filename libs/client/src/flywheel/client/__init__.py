"""What producers install: emit, decide, feedback."""

from flywheel.client.call import Call
from flywheel.client.client import AsyncFlywheel, Flywheel
from flywheel.client.emitter import BudgetRefused, ClientError
from flywheel.client.options import Options
from flywheel.client.outbox import OutboxStats
from flywheel.client.records import Decision

__all__ = ["AsyncFlywheel", "BudgetRefused", "Call", "ClientError", "Decision", "Flywheel", "Options", "OutboxStats"]
