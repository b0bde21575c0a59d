"""Raw doubts: what is read off an answer, by example, and that they stay within 0 and 1."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.policy.cascade import LEARNED_WEIGHTS
from flywheel.policy.doubt import (
    WEIGHTS,
    Answer,
    form_doubt,
    form_signs,
    least_logprob_doubt,
    logprob_doubt,
    raw_doubt,
)
from flywheel.routing.answer_doubt import WEIGHTS as WEIGHTS_OF_SIGNALS
from flywheel.routing.answer_doubt import answer_signals

LONG = "The invoice covers three months of the plan that you booked in March, at the price agreed then. " * 3


@pytest.mark.parametrize(
    ("answer", "signs"),
    [
        (Answer("Paris."), ()),
        (Answer("Paris"), ()),
        (Answer("42"), ()),
        (Answer(LONG), ()),
        (Answer(LONG + "So the sum is 48"), ()),
        (Answer(LONG + "The rest will be"), ("unfinished",)),
        (Answer(LONG + "It has these parts:"), ("unfinished",)),
        (Answer("```python\nprint(1)"), ("unfinished",)),
        (Answer("```python\nprint(1)\n```"), ()),
        (Answer(" \n"), ("empty",)),
        (Answer("", tool_calls=1), ()),
        (Answer("The capital is", "length"), ("cut",)),
        (Answer("The capital is", "max_tokens"), ("cut",)),
        (Answer("No.", "content_filter"), ("filtered",)),
        (Answer("I'm sorry, but I can't help with that."), ("refusal",)),
        (Answer("As an AI language model, I have no address."), ("refusal",)),
        (Answer("The customer wrote: " + "x" * 200 + " I cannot log in."), ()),
        (Answer("I am not sure, but it should be Paris."), ("hedging",)),
        (Answer("It is unclear which plan is meant. Assuming the large one, 20 USD."), ("hedging",)),
        (Answer('{"a": 1}', wants_json=True), ()),
        (Answer("a: 1", wants_json=True), ("not_json",)),
        (Answer('{"a": 1', "length", wants_json=True), ("not_json", "cut")),
    ],
)
def test_signs_in_an_answers_form(answer, signs):
    assert form_signs(answer) == signs
    assert form_doubt(answer) == pytest.approx(1 - math.prod(1 - WEIGHTS[sign] for sign in signs))


def test_probabilities_of_tokens_by_hand():
    # Four tokens of probability 1/2 and one of 1: the geometric mean is 2 ** (-4/5).
    logprobs = [math.log(0.5)] * 4 + [0.0]
    assert logprob_doubt(logprobs) == pytest.approx(1 - 2 ** (-4 / 5))
    # The least tenth of 20 tokens are two: 1/2 and 1/8, whose geometric mean is 1/4.
    logprobs = [math.log(0.9)] * 18 + [math.log(0.5), math.log(0.125)]
    assert least_logprob_doubt(logprobs) == pytest.approx(0.75)
    assert logprob_doubt([-9999.0, 0.0]) == pytest.approx(1 - math.exp(-10)), "one such token is not all that counts"


def test_what_a_doubt_is_read_from_may_be_missing():
    assert raw_doubt("logprobs", Answer("Paris.")) is None
    assert raw_doubt("least_logprobs", Answer("Paris.")) is None
    assert raw_doubt("form", Answer("Paris.")) == 0.0
    assert {raw_doubt(kind, Answer("")) for kind in ("logprobs", "least_logprobs", "form")} == {1.0}
    assert raw_doubt("logprobs", Answer("Paris.", logprobs=[math.log(0.5)])) == pytest.approx(0.5)


@given(st.text(max_size=400), st.none() | st.text(max_size=20), st.booleans(), st.lists(st.floats(-9999, 1)))
def test_a_doubt_is_a_share_whatever_the_answer(text, reason, wants_json, logprobs):
    answer = Answer(text, reason, 0, wants_json, logprobs)
    for kind in ("logprobs", "least_logprobs", "form"):
        doubt = raw_doubt(kind, answer)
        assert doubt is None or 0.0 <= doubt <= 1.0
    if logprobs:
        assert logprob_doubt(logprobs) <= least_logprob_doubt(logprobs) + 1e-12


def test_a_long_hostile_text_is_judged_too():
    for text in ("(" * 300_000, "[" * 300_000, "a " * 200_000, "I'm sorry " * 50_000, "-" * 300_000):
        assert 0.0 <= form_doubt(Answer(text, wants_json=True)) <= 1.0


def test_a_learned_doubt_is_linear_in_the_signals_of_question_and_answer():
    assert LEARNED_WEIGHTS == WEIGHTS_OF_SIGNALS == 1 + len(answer_signals("", ""))
    weights = [0.1] + [0.0] * (LEARNED_WEIGHTS - 1)
    weights[1 + 42 + 3] = 0.2  # numbers in the answer, in logarithms
    answer = Answer("It is 4 or 5.", question="How many eggs are left?")
    assert raw_doubt("learned", answer, weights) == pytest.approx(0.1 + 0.2 * math.log1p(2))
    assert raw_doubt("learned", Answer("1 2 3 " * 99, question=""), [5.0, *weights[1:]]) == 1.0
    with pytest.raises(ValueError, match=r"zip\(\)"):
        raw_doubt("learned", answer, weights[:-1])
