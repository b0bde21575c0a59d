"""Decisions a second and how long one takes, in process on one core; and what learning one reward takes.

Eight arms, two with a rule: of a kind that sees no context (Thompson sampling), and of one that sees 32 features of
every sort (LinTS). A decision is the whole of `flywheel.policy.decide`: rules, features, scores, propensities, the draw
by the request's id; no request is met twice. Baseline: MABWiser's ``predict`` where ``BANDITS_PYTHON`` names an
interpreter that has it (as for `bench_regret.py`), else a call that does nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from bench_decide import ARMS, policy
from harness import Result, percentile, write

from flywheel.policy import DecideRequest, compile_policy, decide
from flywheel.policy.feature_spec import FeatureSpec, encoder_of, encoding_of
from flywheel.policy.features import ONE
from flywheel.policy.linear import LinearPrior, Moments, OnlineLinear, believe
from flywheel.policy.moments import MomentSummary, outcome_vector

COMMAND = "python tests/bench/run.py policies"
DECISIONS = 10_000
UPDATES = 5_000
FEATURES = (
    {"name": "n_chars", "kind": "number", "low": 10, "high": 10_000, "log": True},
    {"name": "turn", "kind": "number", "low": 0, "high": 20},
    {"name": "plan", "kind": "category", "values": ["free", "pro", "enterprise"]},
    {"name": "prompt", "kind": "complexity", "length": "n_chars"},
    {"name": "prompt", "kind": "text", "buckets": 17},
)
PEER = """
import json, time, numpy as np
from mabwiser.mab import MAB, LearningPolicy
r = np.random.default_rng(1)
plain, alone = MAB(arms=list(range(8)), learning_policy=LearningPolicy.ThompsonSampling()), []
plain.fit(r.integers(0, 8, 2000), r.integers(0, 2, 2000))
for _ in range(5000):
    start = time.perf_counter(); plain.predict(); alone.append(time.perf_counter() - start)
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
print(json.dumps({"plain": alone, "contextual": took, "learn": learned}))
"""


def timed(work: Callable[[int], object], times: int, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Return how long each call took, in seconds of ``clock``, after a tenth of them to warm up."""
    for number in range(times, times + times // 10):
        work(number)
    took = []
    for number in range(times):
        start = clock()
        work(number)
        took.append(clock() - start)
    return took


def contextual() -> dict[str, Any]:
    """The policy of `bench_decide.py` as LinTS with 32 features."""
    random, event = np.random.default_rng(1), policy()
    records = [FeatureSpec.model_validate(feature).record() for feature in FEATURES]
    size, linear = len(encoder_of(records).slots), []
    for arm in event["arms"]:
        x = random.normal(size=(250, size))
        reward = x @ random.normal(size=size) * 0.1 + random.normal(size=250) * 0.3
        belief = believe(Moments.of(x, reward), LinearPrior.ridge(size, noise=0.25, noise_weight=2.0))
        root = belief.root[np.tril_indices(size)] * belief.noise_sd
        linear.append({"name": arm["name"], "coefficients": belief.coefficients.tolist(), "root": root.tolist()})
    return event | {
        "kind": "linear_thompson", "features": records, "encoding": encoding_of(records), "on_missing": "encode",
        "scale": 1.0, "gamma": None, "linear": linear,
    }  # fmt: skip


def deciding(event: dict[str, Any]) -> Callable[[int], object]:
    """Return a decision: everything that belongs to it but the log."""
    compiled = compile_policy(event)
    text = "Is 17077 a prime number? Think step by step and then answer [Yes] or [No]."
    asked = [
        DecideRequest(
            event["project"], event["feature"], f"r-{n}",
            {"n_chars": 50 + 7 * n, "turn": n % 20, "plan": ("free", "pro")[n % 2], "prompt": f"{text} {n}"},
        )
        for n in range(DECISIONS + DECISIONS // 10)
    ]  # fmt: skip
    return lambda number: decide(compiled, asked[number], 0)


def learning() -> tuple[Callable[[int], object], Callable[[int], object]]:
    """Return what one reward costs with 20 arms and 50 features: in the running posterior, and in the exact sums."""
    random = np.random.default_rng(2)
    online, summary = OnlineLinear(20, LinearPrior.ridge(50)), MomentSummary()
    raw = random.normal(size=(500, 50))
    whole = np.column_stack([np.full(500, ONE), np.rint(raw[:, 1:] * 500)]).astype(np.int64).tolist()

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
        peer, name = json.loads(answer.stdout), "MABWiser 2.7.4"
    else:
        nothing = timed(lambda number: number, DECISIONS)
        peer, name = dict.fromkeys(("plain", "contextual", "learn"), nothing), "empty function"
    for label, event, note in (
        ("plain", policy(), f"{ARMS} arms, no context: Thompson sampling; from the median"),
        ("contextual", contextual(), f"{ARMS} arms, 32 features: LinTS; from the median"),
    ):
        took = timed(deciding(event), DECISIONS)
        median, theirs = percentile(took, 0.5), percentile(peer[label], 0.5)
        write(Result(f"decide_{label}", 1 / median, "1/s", 1 / theirs, name, COMMAND, note))
        used = percentile(timed(deciding(event), DECISIONS, time.thread_time), 0.99)
        p99, of_cpu = percentile(peer[label], 0.99), f"of the thread's CPU time: {used * 1e6:.0f} us"
        write(Result(f"decide_{label}_p99", percentile(took, 0.99) * 1e6, "us", p99 * 1e6, name, COMMAND, of_cpu))
    for label, work in zip(("posterior", "exact_sums"), learning(), strict=True):
        spent, learned = percentile(timed(work, UPDATES), 0.5), percentile(peer["learn"], 0.5)
        note = "20 arms, 50 features; median"
        write(Result(f"learn_contextual_{label}", spent * 1e6, "us", learned * 1e6, name, COMMAND, note))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
