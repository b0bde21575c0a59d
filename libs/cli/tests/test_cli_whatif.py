"""``flywheel whatif`` on a file of one's own: what is printed, what is refused, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from flywheel.cli.candidates import CandidateInvalid, from_event, parse_shares
from flywheel.cli.logged_rows import MOST_LINE_BYTES, RowInvalid, read_row, read_value
from flywheel.cli.main import cli
from flywheel.policy import DecideRequest, compile_policy, decide

MEANS = {"de": {"cheap": 0.3, "strong": 0.9}, "en": {"cheap": 0.8, "strong": 0.85}}
TRUTH_STRONG = (0.9 + 0.85) / 2
STATIC = """
feature: answers
arms:
  - {name: cheap, model: a/cheap, share: 0.2, eligible_when: {language: en}}
  - {name: strong, model: a/strong, share: 0.8}
policy: {kind: static}
context: [language]
"""
LEARNING = STATIC.replace("kind: static", "kind: thompson").replace(", eligible_when: {language: en}", "")


def whatif(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["whatif", *arguments], prog_name="flywheel", input=stdin)


def lines(rows: int = 1500, *, propensities: bool = True) -> Iterator[str]:
    rng = np.random.default_rng(20_261_121)
    for number in range(rows):
        language = ("de", "en")[int(rng.integers(2))]
        cheap = 0.7 if language == "en" else 0.5
        arm = "cheap" if rng.random() < cheap else "strong"
        reward = float(rng.random() < MEANS[language][arm])
        logged: dict[str, Any] = {"arms": ["cheap", "strong"], "propensities": [cheap, 1 - cheap]}
        if not propensities:
            logged = {"propensity": cheap if arm == "cheap" else 1 - cheap}
        context = {"language": language, "chars": number % 37}
        yield json.dumps({"arm": arm, "reward": reward, **logged, "context": context, "target": {"strong": 1.0}})


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whatif") / "log.jsonl"
    path.write_text("\n".join(lines()) + "\n", encoding="utf-8")
    return path


def test_a_file_and_an_arm_give_the_value_with_every_bound(log: Path) -> None:
    answer = whatif("--file", str(log), "--arm", "strong", "--by", "language", "--json")
    assert answer.exit_code == 0, answer.output
    body = json.loads(answer.stdout)
    whole = body["whole"]
    assert whole["rows"] == 1500 and whole["refused"] == []
    assert [one["estimator"] for one in whole["estimates"]] == ["ips", "snips", "clipped", "dr", "sndr", "switch"]
    for one in whole["estimates"]:
        assert one["interval"][0] < TRUTH_STRONG < one["interval"][1], one
        assert one["sequence"][0] < one["interval"][0] < one["value"] < one["interval"][1]
    assert whole["value_sequence"][0] < TRUTH_STRONG < whole["value_sequence"][1]
    assert whole["better"] is True
    assert {part["value"] for part in body["slices"]} == {"de", "en"}
    german = next(part for part in body["slices"] if part["value"] == "de")
    assert german["value_sequence"][0] < 0.9 < german["value_sequence"][1]
    # The same log, the same report, byte for byte; and the file's own targets say the same policy.
    assert whatif("--file", str(log), "--arm", "strong", "--by", "language", "--json").stdout == answer.stdout
    assert json.loads(whatif("--file", str(log), "--json").stdout)["whole"] == whole


def test_the_table_says_it_in_words(log: Path) -> None:
    shown = whatif("--file", str(log), "--shares", "cheap=.4, strong=1.6", "--by", "language")
    assert shown.exit_code == 0, shown.output
    for word in ("snips", "betting", "effective rows", "proven better than the log", "language = de"):
        assert word in shown.stdout


def test_better_must_be_proven_and_the_exit_code_says_so(log: Path) -> None:
    assert whatif("--file", str(log), "--arm", "strong", "--require-better").exit_code == 0
    worse = whatif("--file", str(log), "--arm", "cheap", "--require-better")
    assert worse.exit_code == 1 and "not proven better" in worse.stderr
    assert whatif("--file", str(log), "--arm", "cheap").exit_code == 0


def test_what_the_log_cannot_carry_is_refused_with_the_reason(log: Path, tmp_path: Path) -> None:
    never = whatif("--file", str(log), "--arm", "never-tried", "--json")
    assert never.exit_code == 1 and "no support: 100.00%" in never.stderr
    assert json.loads(never.stdout)["whole"]["estimates"] == []
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(lines(30)), encoding="utf-8")
    shown = whatif("--file", str(few), "--arm", "strong")
    assert shown.exit_code == 1 and "refused: too few rows: 30" in shown.stdout


def test_the_chosen_arms_propensity_alone_will_do(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(lines(propensities=False)), encoding="utf-8")
    body = json.loads(whatif("--file", str(path), "--arm", "strong", "--json").stdout)
    assert body["whole"]["unsupported_share"] is None
    assert body["whole"]["value_sequence"][0] < TRUTH_STRONG < body["whole"]["value_sequence"][1]


def test_a_charter_decides_by_its_own_rules_and_one_that_learns_is_judged_on_the_rest(
    log: Path, tmp_path: Path
) -> None:
    static, learning = tmp_path / "static.yaml", tmp_path / "learning.yaml"
    static.write_text(STATIC, encoding="utf-8")
    learning.write_text(LEARNING, encoding="utf-8")
    body = json.loads(whatif("--file", str(log), "--policy", str(static), "--json").stdout)
    truth = (0.9 + 0.2 * 0.8 + 0.8 * 0.85) / 2  # in German only the strong one is eligible
    assert all(one["interval"][0] < truth < one["interval"][1] for one in body["whole"]["estimates"])
    body = json.loads(whatif("--file", str(log), "--policy", str(learning), "--learn-share", ".4", "--json").stdout)
    assert body["whole"]["rows"] == 900
    assert body["policy"] == "learning.yaml, beliefs formed on the first 600 decisions"
    assert body["whole"]["better"] is True
    assert abs(body["whole"]["estimates"][1]["value"] - TRUTH_STRONG) < 0.06  # it is sure of the strong one by then
    static.write_text("feature: answers\n", encoding="utf-8")
    wrong = whatif("--file", str(log), "--policy", str(static))
    assert wrong.exit_code == 1 and "static.yaml:1: arms" in wrong.stderr
    static.write_text("{}", encoding="utf-8")
    assert "not a policy as" in whatif("--file", str(log), "--policy", str(static)).stderr


def test_a_policy_that_constraints_charge_is_replayed_as_it_decided() -> None:
    example = Path(__file__).parents[3] / "schemas/examples/policy/v4/within-bounds.json"
    event = json.loads(example.read_text(encoding="utf-8"))
    assert event["standings"][0]["charge"] > 0
    made = decide(compile_policy(event), DecideRequest("acme", "support-answers", "r"), 0)
    logged = dict(zip(made.arms, made.propensities, strict=True))
    row = read_row(
        json.dumps({"arm": made.arm, "reward": 1, "arms": made.arms, "propensities": made.propensities}).encode()
    )
    assert from_event(event)(row) == logged
    assert from_event(event | {"standings": []})(row)["strong"] > 10 * logged["strong"]


def test_an_experiment_serves_the_winner_that_its_part_of_the_log_proves(log: Path, tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(LEARNING.replace("kind: thompson", "kind: experiment"), encoding="utf-8")
    undecided, decided = (
        json.loads(whatif("--file", str(log), "--policy", str(path), "--learn-share", share, "--json").stdout)
        for share in (".05", ".5")
    )
    assert undecided["policy"] == "experiment.yaml, beliefs formed on the first 75 decisions"
    shares = 0.2 * (0.3 + 0.8) / 2 + 0.8 * TRUTH_STRONG  # until it is decided, as the charter declares them
    assert abs(undecided["whole"]["estimates"][1]["value"] - shares) < 0.06
    assert abs(decided["whole"]["estimates"][1]["value"] - TRUTH_STRONG) < 0.06


def test_bad_lines_are_named_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    good = list(lines(200))
    path.write_text("\n".join(["{", *good[:100], '{"arm": "a", "reward": "much"}', "", *good[100:]]), encoding="utf-8")
    answer = whatif("--file", str(path), "--arm", "strong", "--json")
    assert answer.exit_code == 1
    assert "log.jsonl: line 1: not JSON" in answer.stderr
    assert "log.jsonl: line 102: propensity: missing" in answer.stderr
    body = json.loads(answer.stdout)
    assert (body["whole"]["rows"], body["left_out"]) == (200, {"lines that could not be read": 2})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"arm": None}, "arm: missing"),
        ({"arm": 3}, "arm: must be a text"),
        ({"arm": "c"}, "arm: 'c' is not one of arms"),
        ({"reward": True}, "reward: must be a number"),
        ({"arms": "a"}, "arms: must be a list"),
        ({"arms": ["a", "a"]}, "arms: must be 1 to 64 different names"),
        ({"propensities": [1.0]}, "propensities: must be a list with a number for each"),
        ({"propensities": [0.5, 0.7]}, "propensities: add up to 1.2, not 1"),
        ({"propensities": [1.5, -0.5]}, "propensities.0: must be from 0 to 1"),
        ({"propensities": [0.0, 1.0]}, "propensity: must be above 0"),
        ({"propensity": 0.4}, "propensity: 0.4 is not what propensities say"),
        ({"context": []}, "context: must be an object"),
        ({"context": {"x": [1]}}, "context.x: must be a text"),
        ({"target": {"a": 0.5}}, "target: adds up to 0.5, not 1"),
        ({"target": {}}, "target: must be an object"),
        ({"time": "soon"}, "time: must be a time"),
    ],
)
def test_every_field_of_a_line_is_checked(change: dict[str, Any], told: str) -> None:
    line = {"arm": "a", "reward": 1, "arms": ["a", "b"], "propensities": [0.5, 0.5]} | change
    with pytest.raises(RowInvalid) as raised:
        read_row(json.dumps({name: value for name, value in line.items() if value is not None}).encode())
    assert told in str(raised.value)


def test_lines_at_the_edge() -> None:
    with pytest.raises(RowInvalid, match="not an object"):
        read_row(b"[]")
    with pytest.raises(RowInvalid, match="longer"):
        read_row(b" " * (MOST_LINE_BYTES + 1))
    row = read_row(b'{"arm": "a", "reward": 2, "propensity": 1, "time": "1970-01-01T00:00:01", "context": {"n": null}}')
    assert (row.at_us, row.context, row.propensity, row.arms) == (1_000_000, {}, 1.0, ())
    assert [read_value(text) for text in ("true", "2.5", "nan", "de")] == [True, 2.5, "nan", "de"]
    for text in ("cheap", "cheap=x", "a=1,a=1", "a=0", "=1", "a=-1", "a=inf"):
        with pytest.raises(CandidateInvalid):
            parse_shares(text)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), 2, "give either FEATURE or --file"),
        (("answers",), 2, "give the other policy"),
        (("answers", "--arm", "a", "--shares", "a=1"), 2, "give one of"),
        (("--file", "-", "--shares", "a"), 1, "no decision with a reward"),
        (("--file", "-", "--arm", "a", "--reward-range", "2"), 2, "is not LOW:HIGH"),
        (("--file", "-", "--arm", "a", "--reward-range", "2:1"), 2, "LOW must be below HIGH"),
        (("--file", "-", "--arm", "a"), 1, "rewards lie outside of 0 to 1"),
        (("--file", "-"), 1, "1 of 1 lines have no target"),
        (("--file", "-", "--shares", "a"), 1, "is no share"),
    ],
)
def test_what_makes_no_sense_is_one_line(arguments: tuple[str, ...], code: int, told: str) -> None:
    stdin = "" if "no decision" in told else '{"arm": "a", "reward": 7, "propensity": 1}\n'
    answer = whatif(*arguments, stdin=stdin)
    assert (answer.exit_code, told in answer.stderr) == (code, True), answer.output


def test_nobody_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_CLICKHOUSE_URL", "http://127.0.0.1:9")
    answer = whatif("answers", "--arm", "strong")
    assert answer.exit_code == 1 and "127.0.0.1:9" in answer.stderr
