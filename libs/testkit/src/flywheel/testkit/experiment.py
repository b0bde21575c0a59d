"""What the demo plays: queries, two arms, phases in which each arm is one model version, and who answers."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Query:
    """One thing asked; ``reference`` is the answer that counts as right, where the data set gives one."""

    id: str
    text: str
    reference: str | None


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """The model behind an arm in one phase: ``provider`` as in OpenTelemetry's ``gen_ai.provider.name``."""

    provider: str
    name: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model version said to one query, what it took, and whether it was right. Unknown is ``None``."""

    model: ModelVersion
    text: str
    correct: bool
    cost_usd: Decimal
    latency_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    tokens_counted: bool = True


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the experiment in which every arm stays one model version."""

    name: str
    models: Mapping[str, ModelVersion]


class Provider(Protocol):
    """Answers queries: from a recording, or simulated. The same query to the same version has the same answer."""

    def queries(self) -> Sequence[Query]:
        """Every query that every model version of the experiment can answer, in the order of the source."""
        ...

    def answer(self, query: Query, model: ModelVersion) -> Answer:
        """The answer of ``model``. Raises ``KeyError`` for a query or model that is not part of the experiment."""
        ...


@dataclass(frozen=True, slots=True)
class Experiment:
    """A whole experiment: ``strong`` and ``weak`` are the arms, dear and cheap; ``charter`` names the example charter
    that declares its feature, reward and policy (``schemas/examples/charters/<charter>.yaml``)."""

    source: str
    simulated: bool
    charter: str
    strong: str
    weak: str
    phases: tuple[Phase, ...]
    provider: Provider

    @property
    def arms(self) -> tuple[str, str]:
        return (self.strong, self.weak)

    def order(self, phase: Phase, *, seed: int, limit: int | None = None) -> list[Query]:
        """The queries of a phase, shuffled by seed; the same seed gives the same order on every machine."""
        queries = list(self.provider.queries())
        random.Random(f"{seed}/{self.source}/{phase.name}").shuffle(queries)
        return queries if limit is None else queries[:limit]

    def answer(self, phase: Phase, arm: str, query: Query) -> Answer:
        """What ``arm`` says to ``query`` in ``phase``."""
        return self.provider.answer(query, phase.models[arm])
