"""Who answers in tests and in the demo: the recording where it is there, otherwise a simulator with the published
figures."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

from flywheel.testkit.experiment import Answer, Experiment, ModelVersion, Query
from flywheel.testkit.recorded import (
    GPT4_JUNE,
    GPT4_MARCH,
    GPT35_JUNE,
    GPT35_MARCH,
    GSM8K_FILE,
    PRIME_FILE,
    PRIME_PHASES,
    recorded_gsm8k,
    recorded_prime,
)

Source = Literal["llmdrift", "routellm"]


@dataclass(frozen=True, slots=True)
class Figures:
    """What is published of a model version: accuracy 0..1, and means per answer."""

    accuracy: float
    mean_cost_usd: float
    mean_latency_ms: float
    mean_output_tokens: float


PRIME_FIGURES: Final[Mapping[ModelVersion, Figures]] = {
    GPT4_MARCH: Figures(0.84, 0.01383, 8024.0, 215.0),
    GPT4_JUNE: Figures(0.51, 0.00107, 3209.0, 3.0),
    GPT35_MARCH: Figures(0.53, 0.00052, 6609.0, 228.0),
    GPT35_JUNE: Figures(0.78, 0.00066, 16095.0, 299.0),
}
"""LLMDrift's PRIME figures (Chen, Zaharia, Zou 2023): 1,000 queries to each version."""


class Simulator:
    """Answers with the published accuracy, cost and latency of each model version, from a seed.

    Whether version v is right on query q is one draw of a hash of (seed, v, q), so an answer does not depend on what
    was asked before. Costs and latencies are log-normal around the published mean.
    """

    def __init__(
        self, figures: Mapping[ModelVersion, Figures], *, queries: int, seed: int, spread: float = 0.4
    ) -> None:
        self._figures = figures
        self._seed = seed
        self._spread = spread
        self._queries = tuple(
            Query(str(n), f"Is {1009 + 2 * n} a prime number? (simulated)", None) for n in range(queries)
        )

    def queries(self) -> Sequence[Query]:
        return self._queries

    def answer(self, query: Query, model: ModelVersion) -> Answer:
        figures = self._figures[model]
        draw = random.Random(f"{self._seed}/{model.name}/{query.id}")
        correct = draw.random() < figures.accuracy
        size = self._log_normal(draw)
        return Answer(
            model=model,
            text="(simulated)",
            correct=correct,
            cost_usd=Decimal(f"{figures.mean_cost_usd * size:.9f}"),
            latency_ms=round(figures.mean_latency_ms * self._log_normal(draw), 3),
            input_tokens=None,
            output_tokens=max(1, round(figures.mean_output_tokens * size)),
            tokens_counted=False,
        )

    def _log_normal(self, draw: random.Random) -> float:
        """A draw with mean 1."""
        return math.exp(draw.gauss(-(self._spread**2) / 2, self._spread))


def simulated_prime(*, seed: int = 1, queries: int = 1000) -> Experiment:
    """The PRIME experiment as the published figures tell it, for a machine without the recording."""
    provider = Simulator(PRIME_FIGURES, queries=queries, seed=seed)
    return Experiment("simulated", True, "prime", "gpt4", "gpt35", PRIME_PHASES, provider)


def load_experiment(source: Source, folder: Path | None, *, seed: int = 1) -> Experiment:
    """The experiment from the recording in ``folder``; simulated when the recording of ``source`` is not there.

    Raises ``FileNotFoundError`` for ``routellm`` without its file: nothing is published from which to simulate it.
    """
    if source == "routellm":
        if folder is None or not (folder / GSM8K_FILE).is_file():
            raise FileNotFoundError(f"{GSM8K_FILE} is not in the data folder; set FLYWHEEL_DATA, or play llmdrift")
        return recorded_gsm8k(folder)
    if folder is None or not (folder / PRIME_FILE).is_file():
        return simulated_prime(seed=seed)
    return recorded_prime(folder)
