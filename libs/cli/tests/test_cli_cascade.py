"""``flywheel cascade calibrate`` on a user's own judged answers: the knots, the report, and bad lines named."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from flywheel.cli.judged_answers import JudgedAnswer, recorded_answers, recorded_query
from flywheel.cli.main import cli
from flywheel.policy import parse_charter
from flywheel.policy.cascade import Escalation
from flywheel.policy.doubt import Answer, raw_doubt
from flywheel.store import StoreSettings, connect, migrate

GOOD = {"doubt": 0.5, "ok": 1}


def calibrate(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["cascade", "calibrate", *arguments, "--draws", "100"], prog_name="flywheel")


def write(folder: Path, rows: list[Any]) -> str:
    file = folder / "answers.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(file)


def doubted(count: int) -> list[dict[str, Any]]:
    """Answers of which half as many are wrong as the raw doubt says."""
    rng = np.random.default_rng(0)
    raws = rng.random(count).round(3)
    return [{"doubt": raw, "ok": int(rng.random() >= raw / 2)} for raw in raws.tolist()]


def test_the_knots_are_what_a_charter_takes(tmp_path: Path) -> None:
    result = calibrate(write(tmp_path, doubted(2000)), "--extra-usd", "0.01", "--price", "20")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[-1] == "above: 0.2" and lines[-2].startswith("calibration: [[")
    knots = lines[-2].removeprefix("calibration: ")
    charter = parse_charter(f"""
feature: f
arms:
  - {{name: thrifty, model: openai/a, escalate: {{to: strong, above: 0.2, calibration: {knots}}}}}
  - {{name: strong, model: openai/b}}
""")
    plan = charter.arms[0].escalate
    assert plan is not None
    # 2,000 answers in 32 groups: a share's standard error is .06 at most, and pooling makes it smaller.
    assert [plan.calibrated(raw) for raw in (0.2, 0.5, 0.8)] == pytest.approx([0.1, 0.25, 0.4], abs=0.1)


def test_the_report_says_how_much_better_calibrated_doubts_are(tmp_path: Path) -> None:
    result = calibrate(write(tmp_path, doubted(2000)), "--json")
    found = json.loads(result.stdout)
    assert found["raw"]["calibration"]["low"] > 0.2 > found["calibrated"]["calibration"]["value"]
    assert found["brier_less"]["low"] > 0 and found["above"] is None and found["bad_lines"] == []
    caught = [step["wrong_caught"] for step in found["thresholds"]]
    assert caught == sorted(caught, reverse=True) and caught[0] > 0.8 and caught[-1] == 0.0


def test_doubts_are_read_from_answers_and_from_probabilities(tmp_path: Path) -> None:
    good = {"answer": "Paris.", "logprobs": [math.log(0.9)] * 3, "score": 0.9}
    bad = {"answer": "I am not sure.", "logprobs": [math.log(0.4)] * 3, "score": 0.1, "finish_reason": "length"}
    file = write(tmp_path, [good, bad] * 40)
    form = json.loads(calibrate(file, "--json").stdout)
    assert form["calibration"] == [[0.0, 0.1], [0.76, 0.9]], "cut and hedging: 1 - .4 · .6"
    sure = json.loads(calibrate(file, "--json", "--doubt", "logprobs").stdout)
    assert sure["calibration"] == [[0.1, 0.1], [0.6, 0.9]] and sure["wrong"] == pytest.approx(0.5)


def test_a_doubt_is_learned_and_goes_into_a_charter_with_its_calibration(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(400):
        hard = bool(rng.random() < 0.4)
        sums = " + ".join(map(str, rng.integers(1, 99, 9 if hard else 2)))
        rows.append({"question": "What is it?", "answer": f"It is {sums}.", "ok": int(rng.random() > 0.1 + 0.7 * hard)})
    result = calibrate(write(tmp_path, rows), "--doubt", "learned", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["calibrated"]["auc"]["low"] > 0.7
    plan = Escalation(
        to="strong", above=0.4, doubt="learned", weights=tuple(found["weights"]),
        calibration=tuple(map(tuple, found["calibration"])),
    )  # fmt: skip
    told = [Answer(f"It is {sums}.", question="What is it?") for sums in ("3 + 4", " + ".join(["55"] * 9))]
    easy, hard = (plan.calibrated(raw_doubt("learned", each, plan.weights) or 0.0) for each in told)
    assert easy < 0.3 and hard > 0.6
    lines = calibrate(write(tmp_path, rows), "--doubt", "learned").output.splitlines()
    assert lines[-1].startswith("weights: [") and lines[-1].count(",") == 84
    without = calibrate(write(tmp_path, [*rows, GOOD]), "--doubt", "learned")
    assert without.exit_code == 1 and "line 401: answer: is needed" in without.stderr


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ("{", "line"),
        ("[1]", "line"),
        ({**GOOD, "answer": "x"}, "doubt"),
        ({"ok": 1}, "doubt"),
        ({"doubt": 0.5}, "ok"),
        ({**GOOD, "score": 1}, "ok"),
        ({**GOOD, "ok": 2}, "ok"),
        ({**GOOD, "ok": "yes"}, "ok"),
        ({"doubt": 0.5, "score": 1.5}, "score"),
        ({**GOOD, "doubt": True}, "doubt"),
        ({**GOOD, "doubt": float("nan")}, "doubt"),
        ({**GOOD, "weight": -1}, "weight"),
        ({**GOOD, "weight": 0}, "weight"),
        ({**GOOD, "dout": 1}, "dout"),
        ({"answer": 5, "ok": 1}, "answer"),
        ({"answer": "x", "ok": 1, "finish_reason": 1}, "finish_reason"),
        ({"answer": "x", "ok": 1, "wants_json": 1}, "wants_json"),
        ({"answer": "x", "ok": 1, "tool_calls": -1}, "tool_calls"),
        ({"answer": "x", "ok": 1, "logprobs": [0.5]}, "logprobs.0"),
        ({"answer": "x", "ok": 1, "logprobs": "x"}, "logprobs"),
        ({"answer": "x", "ok": 1}, "logprobs"),
    ],
)
def test_a_bad_line_is_named_by_number_and_field_and_skipped(tmp_path: Path, row: Any, field: str) -> None:
    result = calibrate(write(tmp_path, [*doubted(100), "", row]), "--json", "--doubt", "logprobs")
    assert result.exit_code == 1
    (bad,) = json.loads(result.stdout)["bad_lines"]
    assert (bad["line"], bad["field"]) == (102, field)
    assert f"answers.jsonl: line 102: {field}: " in result.stderr and "1 of 101 lines" in result.stderr


def test_what_cannot_be_calibrated_is_said_in_one_line(tmp_path: Path) -> None:
    few = calibrate(write(tmp_path, doubted(20)))
    assert few.exit_code == 1 and "20 answers are too few for 5 folds" in few.stderr
    alike = calibrate(write(tmp_path, [GOOD] * 100))
    assert alike.exit_code == 1 and "equally good" in alike.stderr
    assert calibrate(write(tmp_path, [GOOD]), "--price", "2").exit_code == 2
    assert calibrate(write(tmp_path, [GOOD]), "--feature", "f").exit_code == 2


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Any]:
    client = connect(StoreSettings(path=tmp_path / "clickhouse"))
    migrate(client)
    yield client
    client.close()


def test_clickhouse_tells_the_answers_that_stayed_and_how_many_each_stands_for(database: Any) -> None:
    at = datetime(2026, 11, 20, tzinfo=UTC)
    place = {"k_topic": "t", "k_partition": 0, "k_timestamp": at, "k_batch_first": 0}
    judged = [
        ("a", "kept", 0.1, 0.0, 0.9),
        ("b", "kept", 0.3, 0.75, 0.5),
        ("c", "escalated", 0.4, 1.0, 1.0),
        ("d", "unpaid", 0.6, 1.0, 0.0),
        ("e", "kept", 0.2, 0.0, None),
        ("f", "unjudged", None, None, 1.0),
        ("g", None, None, None, 1.0),
    ]
    for offset, (name, escalation, doubt, chance, quality) in enumerate(judged):
        common = {
            **place,
            "k_offset": offset,
            "project": "acme",
            "request_id": name,
            "feature": "it's",
            "occurred_at": at,
        }
        call = {
            **common, "event_id": f"call-{name}", "decision_id": f"d-{name}", "provider": "openai", "status": "OK",
            "request_model": "m", "escalation": escalation, "doubt_raw": doubt, "escalation_propensity": chance,
        }  # fmt: skip
        outcome = {
            **common, "event_id": f"outcome-{name}", "decision_id": f"d-{name}", "policy_version": 1, "arm": "thrifty",
            "propensity": 1.0, "fallback": False, "quality": quality, "status": "complete", "calls": 1, "errors": 0,
            "revision": 1, "completed_at": at,
        }  # fmt: skip
        database.insert("llm_calls", [list(call.values())], list(call))
        database.insert("outcomes", [list(outcome.values())], list(outcome))

    rows = database.query(recorded_query("acme", "it's", most=100)).result_rows
    assert sorted(recorded_answers(rows)) == [
        JudgedAnswer(0.1, pytest.approx(0.1), 1.0), JudgedAnswer(0.3, 0.5, 4.0), JudgedAnswer(0.6, 1.0, 1.0),
    ]  # fmt: skip
    assert len(database.query(recorded_query("acme", "it's", most=2)).result_rows) == 2
