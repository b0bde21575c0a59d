"""The providers say what was recorded or published; the parsing of answers reproduces the published accuracy."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from flywheel.testkit import (
    DataInvalid,
    Experiment,
    Phase,
    data_folder,
    estimated_tokens,
    final_verdict,
    load_experiment,
    recorded_gsm8k,
    recorded_prime,
    simulated_prime,
)

FOLDER = data_folder()
needs_data = [
    pytest.mark.data,
    pytest.mark.skipif(FOLDER is None, reason="the shared data folder is absent: recorded providers not tested"),
]


def accuracy(experiment: Experiment, phase: Phase, arm: str) -> float:
    right = [experiment.answer(phase, arm, query).correct for query in experiment.provider.queries()]
    return sum(right) / len(right)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("[Yes]", "yes"),
        ("Step 1: no factor is found.\n\nAnswer: [Yes]", "yes"),
        ("[No] At first. But 7 is prime, so [Yes].", "yes"),
        ("Therefore the answer is No", "no"),
        ("[Yes", "yes"),
        ("Divide 2647 by 131: 2647 ÷ 131 = 20.21 (not a whole", "no"),
        ("", "no"),
    ],
)
def test_the_last_bracketed_verdict_counts_then_a_bare_one_and_silence_is_no(answer: str, verdict: str) -> None:
    assert final_verdict(answer) == verdict


class TestRecordedPrime:
    pytestmark = needs_data

    def test_the_parsing_gives_the_published_accuracy(self) -> None:
        assert FOLDER is not None
        experiment = recorded_prime(FOLDER)
        found = {(p.name, arm): accuracy(experiment, p, arm) for p in experiment.phases for arm in experiment.arms}
        assert found == {
            ("march", "gpt4"): 0.841,
            ("june", "gpt4"): 0.511,
            ("march", "gpt35"): 0.529,
            ("june", "gpt35"): 0.782,
        }

    def test_costs_per_thousand_answers_are_the_published_ones(self) -> None:
        assert FOLDER is not None
        experiment = recorded_prime(FOLDER)
        march, june = experiment.phases
        queries = experiment.provider.queries()
        assert len(queries) == 1000
        assert round(sum(experiment.answer(march, "gpt4", q).cost_usd for q in queries), 2) == Decimal("13.83")
        assert round(sum(experiment.answer(june, "gpt4", q).cost_usd for q in queries), 2) == Decimal("1.07")


class TestRecordedGsm8k:
    pytestmark = needs_data

    def test_accuracies_are_those_of_the_recording_and_unknown_latency_stays_unknown(self) -> None:
        assert FOLDER is not None
        experiment = recorded_gsm8k(FOLDER)
        (phase,) = experiment.phases
        assert round(accuracy(experiment, phase, "gpt4"), 3) == 0.857
        assert round(accuracy(experiment, phase, "mixtral"), 3) == 0.638
        first = experiment.provider.queries()[0]
        assert experiment.answer(phase, "gpt4", first).latency_ms is None

    def test_cost_is_the_estimated_tokens_at_list_price(self) -> None:
        assert FOLDER is not None
        experiment = recorded_gsm8k(FOLDER)
        (phase,) = experiment.phases
        query = experiment.provider.queries()[0]
        answer = experiment.answer(phase, "gpt4", query)
        tokens_in, tokens_out = estimated_tokens(query.text), estimated_tokens(answer.text)
        assert answer.cost_usd == Decimal("0.00001") * tokens_in + Decimal("0.00003") * tokens_out


class TestSimulator:
    def test_it_plays_the_published_figures(self) -> None:
        experiment = simulated_prime(seed=7, queries=4000)
        march, june = experiment.phases
        for phase, arm, published in [
            (march, "gpt4", 0.84),
            (march, "gpt35", 0.53),
            (june, "gpt4", 0.51),
            (june, "gpt35", 0.78),
        ]:
            assert abs(accuracy(experiment, phase, arm) - published) < 0.03
        queries = experiment.provider.queries()
        mean_usd = sum(float(experiment.answer(march, "gpt4", q).cost_usd) for q in queries) / len(queries)
        assert 0.9 < mean_usd / 0.01383 < 1.1

    def test_an_answer_depends_on_seed_version_and_query_alone(self) -> None:
        one, again, other = (simulated_prime(seed=seed, queries=50) for seed in (1, 1, 2))
        march = one.phases[0]
        queries = one.provider.queries()
        forwards = [one.answer(march, "gpt4", q) for q in queries]
        backwards = [again.answer(march, "gpt4", q) for q in reversed(queries)]
        assert forwards == backwards[::-1]
        assert forwards != [other.answer(march, "gpt4", q) for q in queries]

    def test_it_stands_in_when_the_recording_is_absent_and_says_so(self, tmp_path: Path) -> None:
        assert load_experiment("llmdrift", None).source == "simulated"
        assert load_experiment("llmdrift", tmp_path).simulated
        with pytest.raises(FileNotFoundError, match="FLYWHEEL_DATA"):
            load_experiment("routellm", tmp_path)


def test_the_order_is_a_shuffle_by_seed_that_differs_between_phases() -> None:
    experiment = simulated_prime(queries=30)
    march, june = experiment.phases
    order = experiment.order(march, seed=3)
    assert order == experiment.order(march, seed=3)
    assert order != experiment.order(march, seed=4)
    assert order != experiment.order(june, seed=3)
    assert sorted(order, key=lambda q: int(q.id)) == list(experiment.provider.queries())
    assert experiment.order(march, seed=3, limit=5) == order[:5]


HEADER = "id,model,query,ref_answer,answer,latency,cost,answer_token\n"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("id,model\n", "no column 'query'"),
        (HEADER, "no query is answered by all"),
        (HEADER + "1,x/gpt-4-0314,q,yes,[Yes],soon,0.1,3\n", "line 2: latency, cost or answer_token is not a number"),
    ],
)
def test_a_broken_recording_is_refused_by_file_line_and_column(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "llmdrift").mkdir()
    (tmp_path / "llmdrift" / "PRIME_FULL_EVAL.csv").write_text(content)
    with pytest.raises(DataInvalid, match=complaint):
        recorded_prime(tmp_path)
