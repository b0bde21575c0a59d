"""LLMDrift's recorded change (PRIME) replayed against the pure core: does the policy notice, whatever the seed?

Two thousand decisions: a thousand queries in a random order with the March versions of both models, then a thousand
with the June versions. The outcome of a request is known only 20 to 50 requests later.
"""

from __future__ import annotations

import csv
import os
import re
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from random import Random

import pytest

from flywheel.policy import (
    DecideRequest,
    RewardRule,
    Summary,
    build_policy,
    compile_policy,
    compose,
    decide,
    parse_charter,
)
from flywheel.policy.reward import Attempt

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("FLYWHEEL_DATA", ROOT.parent / "shared" / "data")) / "llmdrift" / "PRIME_FULL_EVAL.csv"
CHARTER = (ROOT / "schemas" / "examples" / "charters" / "prime.yaml").read_text()
VERSIONS = {
    ("gpt4", 0): "openaichat/gpt-4-0314",
    ("gpt4", 1): "openaichat/gpt-4-0613",
    ("gpt35", 0): "openaichat/gpt-3.5-turbo-0301",
    ("gpt35", 1): "openaichat/gpt-3.5-turbo-0613",
}
T0 = 1_750_000_000_000_000
pytestmark = [pytest.mark.data, pytest.mark.skipif(not DATA.exists(), reason="the shared data folder is absent")]


def answered(text: str) -> str | None:
    """Return yes or no: the last bracketed answer, else a bare one in the last line."""
    brackets = re.findall(r"\[(yes|no)\b", text, re.IGNORECASE)
    words = brackets or re.findall(r"\b(yes|no)\b", text.strip().rpartition("\n")[2], re.IGNORECASE)
    return words[-1].lower() if words else None


@lru_cache(maxsize=1)
def recorded():
    """Return reward in nano units and correctness by arm and phase, one per query."""
    charter = parse_charter(CHARTER)
    rule = RewardRule.of(charter)
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in VERSIONS.values()}
    csv.field_size_limit(10**9)
    with DATA.open(newline="") as file:
        for row in csv.DictReader(file):
            right = answered(row["answer"]) == row["ref_answer"].lower()
            attempt = Attempt("OK", Decimal(row["cost"]), float(row["latency"]) * 1000)
            composed = compose(rule, {"answer.correct": float(right)}, [attempt], closed=False)
            found[row["model"]].append((composed.reward_nano, right))
    return charter, {key: found[name] for key, name in VERSIONS.items()}


def replay(seed: int, *, charter_text: str | None = None, every: int = 16):
    """Return the arms chosen and the rewards, in nano units, of Flywheel and of either model alone."""
    charter, outcomes = recorded()
    if charter_text is not None:
        charter = parse_charter(charter_text)
    random = Random(seed)
    queries = []
    for phase in (0, 1):
        order = list(range(1000))
        random.shuffle(order)
        queries += [(phase, query) for query in order]
    summary, pending, chosen, total, folded = Summary(), [], [], 0, 0

    def published(version):
        about = {"charter_revision": 1, "charter_digest": "", "occurred_at_us": T0}
        event = build_policy(charter, policy_version=version, summaries=[summary], **about)
        return compile_policy(event)

    policy = published(1)
    for number, (phase, query) in enumerate(queries):
        decision = decide(policy, DecideRequest("default", "prime-check", f"{seed}-{number}"), T0)
        reward, _ = outcomes[decision.arm, phase][query]
        chosen.append(decision.arm)
        total += reward
        pending.append((number + random.randint(20, 50), (T0 + number * 20_000) >> 16, decision.arm, reward))
        due = [item for item in pending if item[0] <= number]
        pending = [item for item in pending if item[0] > number]
        for _, unit, arm, nano in due:
            summary.add(unit, arm, nano)
        folded += len(due)
        if number % every == 0:
            policy = published(2 + folded)
    fixed = {}
    for arm in ("gpt4", "gpt35"):
        fixed[arm] = sum(outcomes[arm, phase][query][0] for phase, query in queries)
    return chosen, total, fixed


def test_the_recorded_answers_give_the_published_accuracies():
    _, outcomes = recorded()
    accuracy = {key: sum(right for _, right in rows) / len(rows) for key, rows in outcomes.items()}
    assert {key: round(value, 2) for key, value in accuracy.items()} == {
        ("gpt4", 0): 0.84, ("gpt4", 1): 0.51, ("gpt35", 0): 0.53, ("gpt35", 1): 0.76,
    }  # fmt: skip


@pytest.mark.slow
def test_the_change_is_noticed_and_both_fixed_models_are_beaten_in_at_least_99_percent_of_seeds():
    noticed = beaten = 0
    seeds = 30
    for seed in range(seeds):
        chosen, total, fixed = replay(seed)
        noticed += chosen[-300:].count("gpt35") >= 240
        beaten += total > max(fixed.values())
    assert noticed >= 0.99 * seeds, noticed
    assert beaten >= 0.99 * seeds, beaten
