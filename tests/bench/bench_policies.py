"""Contextual decisions a second and how long one takes, in process on one core; and what learning one reward takes.

Eight arms, 32 features of every kind; a decision encodes the context, scores the arms, computes the propensities and
draws. Baseline: MABWiser's LinTS where ``BANDITS_PYTHON`` names an interpreter that has it (as for `bench_regret.py`),
else a call that does nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate

import numpy as np
from harness import Result, percentile, write

from flywheel.events import event_id
from flywheel.policy.contextual import contextual_probabilities
from flywheel.policy.decide import uniform
from flywheel.policy.features import ONE, CategoryFeature, ComplexityFeature, Encoder, NumberFeature, TextFeature
from flywheel.policy.linear import LinearArms, LinearPrior, Moments, OnlineLinear, believe
from flywheel.policy.moments import MomentSummary, outcome_vector

COMMAND = "python tests/bench/run.py policies"
DECISIONS = 10_000
UPDATES = 5_000
ARMS = 8
PEER = """
import json, time, numpy as np
from mabwiser.mab import MAB, LearningPolicy
r = np.random.default_rng(1)
mab = MAB(arms=list(range(8)), learning_policy=LearningPolicy.LinTS(alpha=0.3))
mab.fit(r.integers(0, 8, 2000), r.random(2000), contexts=r.normal(size=(2000, 32)))
rows, took = r.normal(size=(300, 1, 32)), []
for row in rows:
    start = time.perf_counter(); mab.predict(row); took.append(time.perf_counter() - start)
big = MAB(arms=list(range(20)), learning_policy=LearningPolicy.LinTS(alpha=0.3))
big.fit(r.integers(0, 20, 2000), r.random(2000), contexts=r.normal(size=(2000, 50)))
learned = []
for row in r.normal(size=(100, 1, 50)):
    start = time.perf_counter(); big.partial_fit([3], [1.0], contexts=row); learned.append(time.perf_counter() - start)
print(json.dumps({"decide": took, "learn": learned}))
"""


def encoder() -> Encoder:
    """Thirty-two slots: numbers, a category, hashed text and complexity."""
    return Encoder([
        NumberFeature("n_chars", 10, 10_000, log=True), NumberFeature("turn", 0, 20),
        CategoryFeature("plan", ("free", "pro", "enterprise")), ComplexityFeature("prompt", length="n_chars"),
        TextFeature("prompt_words", 17),
    ])  # fmt: skip


def timed(work: Callable[[int], object], times: int) -> list[float]:
    """Return how long each call took, in seconds, after a tenth of them to warm up."""
    for number in range(times // 10):
        work(number)
    took = []
    for number in range(times):
        start = time.perf_counter()
        work(number)
        took.append(time.perf_counter() - start)
    return took


def deciding() -> Callable[[int], object]:
    """Return a decision with everything that belongs to it but the log."""
    random, encode = np.random.default_rng(1), encoder()
    size = len(encode.slots)
    beliefs = []
    for _ in range(ARMS):
        x = random.normal(size=(250, size))
        reward = x @ random.normal(size=size) * 0.1 + random.normal(size=250) * 0.3
        beliefs.append(believe(Moments.of(x, reward), LinearPrior.ridge(size, noise=0.25, noise_weight=2.0)))
    arms = LinearArms.of(beliefs)
    text = "Is 17077 a prime number? Think step by step and then answer [Yes] or [No]."
    contexts = [
        {"n_chars": 50 + 7 * n, "turn": n % 20, "plan": ("free", "pro")[n % 2], "prompt": f"{text} {n}",
         "prompt_words": f"{text} {n}"}
        for n in range(500)
    ]  # fmt: skip

    def one(number: int) -> int:
        x = encode.encode(contexts[number % 500]) / ONE
        values = contextual_probabilities("lin_ts", *arms.scores(x), explore_floor=0.01).values
        return bisect_right(list(accumulate(values))[:-1], uniform(event_id("decision", "d", "f", str(number), 1)))

    return one


def learning() -> tuple[Callable[[int], object], Callable[[int], object]]:
    """Return what one reward costs with 20 arms and 50 features: in the running posterior, and in the exact sums."""
    random = np.random.default_rng(2)
    online, summary = OnlineLinear(20, LinearPrior.ridge(50)), MomentSummary()
    raw = random.normal(size=(500, 50))
    whole = np.column_stack([np.full(500, ONE), np.rint(raw[:, 1:] * 500)]).astype(np.int64)

    def posterior(number: int) -> None:
        online.update(number % 20, raw[number % 500], 1.0)

    def exact(number: int) -> None:
        summary.add(number // 50, f"arm-{number % 20}", outcome_vector(whole[number % 500], 0.7, (0.0, 1.0)))

    return posterior, exact


def main() -> int:
    """Measure and write."""
    python = os.environ.get("BANDITS_PYTHON")
    if python:
        answer = subprocess.run([python, "-c", PEER], check=True, capture_output=True, text=True)
        peer, name = json.loads(answer.stdout), "MABWiser 2.7.4 LinTS"
    else:
        nothing = timed(lambda number: number, DECISIONS)
        peer, name = {"decide": nothing, "learn": nothing}, "empty function"
    took = timed(deciding(), DECISIONS)
    median, theirs = percentile(took, 0.5), percentile(peer["decide"], 0.5)
    write(
        Result(
            "decide_contextual", 1 / median, "1/s", 1 / theirs, name, COMMAND, "8 arms, 32 features; from the median"
        )
    )
    p99 = percentile(peer["decide"], 0.99)
    write(Result("decide_contextual_p99", percentile(took, 0.99) * 1e6, "us", p99 * 1e6, name, COMMAND))
    for label, work in zip(("posterior", "exact_sums"), learning(), strict=True):
        spent, learned = percentile(timed(work, UPDATES), 0.5), percentile(peer["learn"], 0.5)
        note = "20 arms, 50 features; median"
        write(Result(f"learn_contextual_{label}", spent * 1e6, "us", learned * 1e6, name, COMMAND, note))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
