"""The runner: ports, the aiokafka shell, the in-memory bus, local state."""

from flywheel.stream.bodies import as_body, body_of
from flywheel.stream.errors import Fatal, Revoked, Unavailable
from flywheel.stream.forms import check_form
from flywheel.stream.kafka import KafkaBus
from flywheel.stream.memory import MemoryBus
from flywheel.stream.ports import Bus, Consumer, Fold, Listener, Producer, Sink, StateView
from flywheel.stream.publisher import Publisher
from flywheel.stream.runner import Runner
from flywheel.stream.settings import RunnerSettings
from flywheel.stream.stages import Process, Stage, StageSettings
from flywheel.stream.state import ShardState, state_digest
from flywheel.stream.steps import StepSpec
from flywheel.stream.table import CompactedTable
from flywheel.stream.ticker import Ticker
from flywheel.stream.types import (
    Event,
    FoldResult,
    Hold,
    Outgoing,
    Output,
    RawRecord,
    Reject,
    Skip,
    TopicPartition,
    Verdict,
)

__all__ = [
    "Bus",
    "CompactedTable",
    "Consumer",
    "Event",
    "Fatal",
    "Fold",
    "FoldResult",
    "Hold",
    "KafkaBus",
    "Listener",
    "MemoryBus",
    "Outgoing",
    "Output",
    "Process",
    "Producer",
    "Publisher",
    "RawRecord",
    "Reject",
    "Revoked",
    "Runner",
    "RunnerSettings",
    "ShardState",
    "Sink",
    "Skip",
    "Stage",
    "StageSettings",
    "StateView",
    "StepSpec",
    "Ticker",
    "TopicPartition",
    "Unavailable",
    "Verdict",
    "as_body",
    "body_of",
    "check_form",
    "state_digest",
]
