"""A change that really happened: GPT-4 and GPT-3.5 between March and June 2023 (Chen, Zaharia & Zou 2023)."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.detect import ChangeDetector
from flywheel.detect.label_shift import corrected_shares, explain
from flywheel.testkit.recorded import GPT4_JUNE, GPT4_MARCH, data_folder, final_verdict, recorded_prime

FOLDER = data_folder()
ABSENT = FOLDER is None or not (FOLDER / "llmdrift" / "PRIME_FULL_EVAL.csv").exists()
pytestmark = [pytest.mark.data, pytest.mark.skipif(ABSENT, reason="the shared data folder is absent")]
ORDERS = 5
NAMES = {"quality": "correct", "cost": "cost_usd", "length": "output_tokens"}


@pytest.fixture(scope="module")
def prime():
    return recorded_prime(FOLDER)


@pytest.mark.parametrize(("arm", "calls"), [("gpt4", 60), ("gpt35", 110)])
def test_june_is_told_from_march(prime, arm, calls):
    """Medians of 50 orders are the benchmark's; one of 5 scatters, so twice as many calls are allowed here."""
    queries = prime.provider.queries()
    for name in NAMES.values():
        march, june = (
            [float(getattr(prime.provider.answer(query, phase.models[arm]), name)) for query in queries]
            for phase in prime.phases
        )
        delays = []
        for order in range(ORDERS):
            rng, detector = np.random.default_rng([3, order]), ChangeDetector(run_length=100_000.0, salt=str(order))
            assert not any([detector.update(march[place]) for place in rng.permutation(len(march))])
            later = enumerate(rng.permutation(len(june)), 1)
            delays.append(next((count for count, place in later if detector.update(june[place])), len(june)))
        assert np.median(delays) <= 2 * calls


def test_it_is_accuracy_and_not_the_mix_of_primes_and_composites(prime):
    """The same questions: the mix is the same, both classes are answered otherwise. A mix of our own is told as one."""
    queries = prime.provider.queries()

    def right_and_wrong(model, some):
        counts = {"yes": [0, 0], "no": [0, 0]}
        for query in some:
            counts[query.reference.lower()][not prime.provider.answer(query, model).correct] += 1
        return [tuple(counts[name]) for name in ("yes", "no")]

    march = right_and_wrong(GPT4_MARCH, queries)
    loss = explain(march, right_and_wrong(GPT4_JUNE, queries))
    assert loss.verdict == "accuracy"
    assert loss.change == pytest.approx(0.511 - 0.841, abs=0.002)
    primes = [query for query in queries if query.reference.lower() == "yes"]
    mixed = primes + [query for query in queries if query not in primes][: len(primes) // 4]
    shift = explain(march, right_and_wrong(GPT4_MARCH, mixed))
    assert shift.verdict == "label_shift"

    def answered(model, some):
        said = [final_verdict(prime.provider.answer(query, model).text) for query in some]
        return [said.count("yes"), said.count("no")]

    joint = np.column_stack(
        [
            answered(GPT4_MARCH, [query for query in queries if query.reference.lower() == name])
            for name in ("yes", "no")
        ]
    )
    assert not corrected_shares(joint, answered(GPT4_JUNE, queries)).plausible
    found = corrected_shares(joint, answered(GPT4_MARCH, mixed))
    assert found.plausible
    assert found.shares[0] == pytest.approx(len(primes) / len(mixed), abs=0.04)
