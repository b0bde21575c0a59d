"""Charters: what a user writes, and how every mistake is named with its line and field."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.policy import CharterInvalid, parse_charter

EXAMPLES = Path(__file__).parents[3] / "schemas" / "examples" / "charters"
CHARTER = """\
feature: support-answers
quality: {0.6: judge.helpful, 0.4: user.thumb}
weights: {cost: 0.2, latency: 0.1}
constraints: {p95_latency_ms: 3000, safety.leak: {max: 0.001}}
arms:
  - {name: strong, model: openai/gpt-4o, prompt: support@7, params: {temperature: 0.2}}
  - {name: cheap, model: openai/gpt-4o-mini, eligible_when: {language: [en, de], n_chars: {lt: 4000}}}
policy: {kind: thompson, half_life: 2000 outcomes, explore_floor: 0.02, default: strong}
context: [language, n_chars]
attribution_window: 24h
budgets: [{scope: {team: cx}, usd: 50, per: day, mode: hard}]
slo: [{metric: error_rate, max: 0.01, window: 30d}]
"""


def problems(text: str) -> list[str]:
    with pytest.raises(CharterInvalid) as caught:
        parse_charter(text)
    return [str(problem) for problem in caught.value.problems]


def test_a_charter_says_what_was_written():
    charter = parse_charter(CHARTER)
    assert charter.quality == {"judge.helpful": 0.6, "user.thumb": 0.4}
    assert (charter.project, charter.default_arm, charter.attribution_window_s) == ("default", "strong", 86400.0)
    assert (charter.policy.kind, charter.policy.half_life_outcomes) == ("thompson_beta", 2000.0)
    assert charter.constraints["p95_latency_ms"].max == 3000
    strong, cheap = charter.arms
    assert (strong.prompt_name, strong.prompt_version, strong.params) == ("support", "7", {"temperature": 0.2})
    assert [c.operator for c in cheap.eligible_when["n_chars"]] == ["lt"]
    assert charter.reward_range == pytest.approx((-0.3, 1.0))


def test_quality_may_be_written_by_name_too():
    assert parse_charter(CHARTER.replace("{0.6: judge.helpful, 0.4: user.thumb}", "{a: 0.5, b: 0.5}")).quality == {
        "a": 0.5,
        "b": 0.5,
    }


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_a_charter(path):
    assert parse_charter(path.read_text()).arms


@pytest.mark.parametrize(
    ("written", "instead", "problem"),
    [
        ("weights:", "weigths:", "line 3: weigths: unknown field; did you mean weights?"),
        ("default: strong", "defualt: strong", "line 8: policy.defualt: unknown field; did you mean default?"),
        ("default: strong", "default: big", "line 8: policy.default: big is not an arm; one of strong, cheap"),
        ("half_life: 2000 outcomes", "half_life: soon", "line 8: policy.half_life: expected a duration such as"),
        ("half_life: 2000 outcomes", "half_life: 0 outcomes", "line 8: policy.half_life: must be at least 1 outcome"),
        ("half_life: 2000 outcomes", "half_life: 3", "line 8: policy.half_life: expected '2000 outcomes'"),
        ("kind: thompson", "kind: luck", "line 8: policy.kind: Input should be 'thompson_beta'"),
        ("explore_floor: 0.02", "explore_floor: 0.6", "line 8: policy.explore_floor: Input should be less than"),
        ("cost: 0.2", "cost: 'much'", "line 3: weights.cost: Input should be a valid number"),
        ("cost: 0.2", "cost: true", "line 3: weights.cost: Input should be a valid number"),
        ("cost: 0.2", "cost: -1", "line 3: weights.cost: Input should be greater than or equal to 0"),
        ("cost: 0.2", "cost: .nan", "line 3: weights.cost: Input should be a finite number"),
        ("0.4: user.thumb", "0.3: user.thumb", "line 2: quality: weights add up to 0.9, not 1"),
        ("0.4: user.thumb", "0.4: judge.helpful", "line 2: quality: judge.helpful is named twice"),
        ("0.4: user.thumb", "0.4: [a]", "line 2: quality: each entry names an evaluator"),
        ("name: cheap", "name: strong", "line 5: arms: arm strong is declared twice"),
        ("name: cheap", "name: 'che ap'", "line 7: arms.1.name: String should match pattern"),
        ("name: cheap, ", "", "line 7: arms.1.name: Field required"),
        ("{lt: 4000}", "{less: 4000}", "line 7: arms.1.eligible_when: unknown operator 'less'"),
        ("{lt: 4000}", "{lt: [1]}", "line 7: arms.1.eligible_when: lt needs a number or a text"),
        ("{lt: 4000}", "{in: 3}", "line 7: arms.1.eligible_when: in needs a list"),
        ("{lt: 4000}", "{eq: {a: 1}}", "line 7: arms.1.eligible_when: eq needs a single value"),
        ("n_chars: {lt", "size: {lt", "line 7: arms.1.eligible_when.size: not declared under context"),
        ("attribution_window: 24h", "attribution_window: day", "line 10: attribution_window: expected a duration"),
        ("usd: 50", "usd: 0", "line 11: budgets.0.usd: Input should be greater than 0"),
        ("per: day", "per: year", "line 11: budgets.0.per: Input should be 'hour'"),
        ("max: 0.001", "maxi: 0.001", "line 4: constraints.safety.leak.maxi: unknown field"),
        ("feature: support-answers", "feature: [a]", "line 1: feature: Input should be a valid string"),
        ("feature: support-answers", "project: x", "line 1: feature: Field required"),
    ],
)
def test_a_mistake_is_named_with_line_and_field(written, instead, problem):
    assert written in CHARTER
    found = problems(CHARTER.replace(written, instead, 1))
    assert any(line.startswith(problem) for line in found), found


SLO = "slo: [{metric: error_rate, max: 0.01, window: 30d}]"


@pytest.mark.parametrize(
    ("declared", "label", "budget"),
    [
        ("{metric: error_rate, max: 0.01, window: 30d}", "error_rate", Fraction(1, 100)),
        ("{metric: success_rate, min: 0.999, window: 30d}", "success_rate", Fraction(1, 1000)),
        ("{metric: latency_ms, below: 3000, share: 0.95, window: 7d}", "latency_ms<3000", Fraction(5, 100)),
        ("{metric: ttft_ms, below: 800, share: 0.9, window: 1h, name: fast}", "fast", Fraction(1, 10)),
    ],
)
def test_a_service_level_is_a_share_of_what_may_be_bad(declared, label, budget):
    (level,) = parse_charter(CHARTER.replace(SLO, f"slo: [{declared}]")).slo
    assert (level.label, level.budget) == (label, budget)


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ("{metric: eror_rate, max: 0.01, window: 30d}", "line 12: slo.0.metric: Input should be 'error_rate'"),
        ("{metric: error_rate, window: 30d}", "line 12: slo.0.max: error_rate needs it; write max"),
        ("{metric: error_rate, max: 0.1, share: 1, window: 30d}", "line 12: slo.0.share: error_rate does not take it"),
        ("{metric: success_rate, max: 0.1, window: 30d}", "line 12: slo.0.max: success_rate does not take it"),
        (
            "{metric: latency_ms, max: 3000, window: 30d}",
            "line 12: slo.0.max: latency_ms does not take it; write below",
        ),
        ("{metric: latency_ms, below: 3000, share: 1, window: 30d}", "line 12: slo.0.share: must be above 0 and below"),
        ("{metric: error_rate, max: 0, window: 30d}", "line 12: slo.0.max: must be above 0 and below 1"),
        ("{metric: error_rate, max: 0.01, window: 366d}", "line 12: slo.0.window: must be between 1h and 92d"),
        ("{metric: error_rate, max: 0.01, window: 59m}", "line 12: slo.0.window: must be between 1h and 92d"),
        (
            "{metric: error_rate, max: 0.01, window: 30d}, {metric: error_rate, max: 0.1, window: 1d}",
            "line 12: slo.1.name: error_rate is declared twice",
        ),
        (", ".join(["{metric: error_rate, max: 0.01, window: 30d}"] * 9), "line 12: slo: List should have at most 8"),
    ],
)
def test_a_service_level_that_cannot_be_held_is_refused(declared, problem):
    found = problems(CHARTER.replace(SLO, f"slo: [{declared}]"))
    assert any(line.startswith(problem) for line in found), found


def test_every_mistake_is_told_at_once():
    text = CHARTER.replace("cost: 0.2", "cost: x").replace("usd: 50", "usd: -1")
    assert [line.partition(": ")[0] for line in problems(text)] == ["line 3", "line 11"]


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ("policy: {kind: static}", "policy.kind: static needs a share"),
        ("policy: {prior: {mean: 3}}", "policy.prior.mean: must lie inside the reward range"),
        ("reward: {min: 1, max: 0}", "reward: min must be below max"),
        ("policy: {explore_floor: 0.5}\n#", "policy.explore_floor: 3 arms cannot each have at least 0.5"),
    ],
)
def test_declarations_that_contradict_each_other(extra, problem):
    arms = "arms: [{name: a, model: m}, {name: b, model: m}, {name: c, model: m}]\n"
    assert any(problem in line for line in problems(f"feature: f\n{arms}{extra}\n"))


def test_at_least_one_arm_is_enabled():
    assert problems("feature: f\narms: [{name: a, model: m, enabled: false}]") == ["line 2: arms: no arm is enabled"]


def test_rewards_without_quality_or_prices_have_a_range_too():
    arms = "arms: [{name: a, model: m}]\n"
    assert parse_charter(f"feature: f\n{arms}").reward_range == (0.0, 1.0)
    assert parse_charter(f"feature: f\n{arms}weights: {{cost: 2}}").reward_range == (-2.0, 0.0)
    assert parse_charter(f"feature: f\n{arms}reward: {{min: -3, max: 4}}").reward_range == (-3.0, 4.0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: expected a mapping"),
        ("- a", "line 1: expected a mapping"),
        ("a: &x [1]\nb: *x", "line 1: anchors and aliases are not allowed"),
        ("a: 1\nb: !!python/object/apply:os.system [x]", "line 2: tags such as"),
        ("a: " + "[" * 40 + "]" * 40, "line 1: deeper than 12 levels"),
        ("a: {b: 1\n", "line 2: expected ',' or '}'"),
        ("a: 1\na: 2", "line 2: a: declared twice"),
        ("? [a]\n: b", "line 1: a key must be a single value"),
        ("a: \x00", "line 1: not YAML"),
        ("a: " + "x" * 70_000, "line 1: larger than 65536 bytes"),
        ("a: [" + "1," * 6000 + "]", "more than 5000 values"),
    ],
    ids=range(11),
)
def test_hostile_text_is_refused(text, problem):
    assert problem in problems(text)[0]


def test_an_alias_bomb_is_refused_before_it_is_built():
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "anchors and aliases" in problems("\n".join(lines))[0]


@given(st.text(max_size=200))
def test_any_text_is_a_charter_or_refused(text):
    try:
        parse_charter(text)
    except CharterInvalid as error:
        assert error.problems and all(problem.line >= 1 for problem in error.problems)
