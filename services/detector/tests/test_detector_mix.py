"""A lower score, told apart: other requests, or the same ones answered worse."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path

from flywheel_detector.core.guarded import Seen
from flywheel_detector.core.mix import MAX_CLASSES, MAX_FIELDS, TRAIL, Mix

_spec = importlib.util.spec_from_file_location("detector_parts", Path(__file__).with_name("conftest.py"))
assert _spec and _spec.loader
parts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parts)

RIGHT = {"en": 0.95, "de": 0.45}


def asked(shares: dict[str, float], right: dict[str, float], seed: int):
    """A decided, answered and judged request a second: its language by ``shares``, right as often as ``right`` says."""

    def facts(n, at_s):
        dice = random.Random(f"{seed}:{n}")
        language = dice.choices(list(shares), list(shares.values()))[0]
        context = {"language": language, "n_chars": str(dice.randint(1, 10_000))}
        return [
            parts.decision(n, at_s, "strong", context=context),
            parts.call(n, at_s + 0.1, decision_id=f"decision-{n}"),
            parts.score(n, at_s + 0.3, float(dice.random() < right[language])),
        ]

    return facts


def told(later):
    """The first report of the drop of quality that says whether it is the mix."""
    world = parts.World()
    world.play(0, 500, asked({"en": 0.9, "de": 0.1}, RIGHT, 1))
    world.play(500, 800, later)
    assert world.said("quality")[0]["occurred_at"] <= parts.at(600)
    return next(alert for alert in world.said("quality") if "mix_verdict" in alert["attributes"])


def test_other_requests_are_told_as_a_shift_of_the_mix():
    alert = told(asked({"en": 0.1, "de": 0.9}, RIGHT, 2))
    assert alert["attributes"]["mix_verdict"] == "label_shift"
    (line,) = alert["attributes"]["mix"].split("; ")
    assert line.startswith("language: label_shift, -0.") and "de " in line and "n_chars" not in line


def test_the_same_requests_answered_worse_are_told_as_such():
    alert = told(asked({"en": 0.9, "de": 0.1}, {"en": 0.4, "de": 0.3}, 3))
    assert alert["attributes"]["mix_verdict"] == "accuracy"


def test_a_score_waits_for_the_decision_that_says_what_was_asked():
    world = parts.World()
    judged = [parts.call(1, 1.0, decision_id="decision-1"), parts.score(1, 2.0, 0.5)]
    world.read(judged, 3)
    assert not any("score:" in entry.value["body"] for entry in world.ledger)
    world.read([parts.decision(1, 0.5, "strong", context={"language": "de", "text": "x" * 65})], 4)
    (body,) = [json.loads(entry.value["body"]) for entry in world.ledger if "score:" in entry.value["body"]]
    assert [cell["classes"] for cell in body["cells"] if "classes" in cell] == [{"language": "de"}]


def scores(start: int, classes: dict[str, str], value: float = 1.0):
    return [Seen(start + n, value, f"r{n}", json.dumps(classes)) for n in range(16)]


def test_what_is_counted_is_bounded_and_stays_exact():
    mix = Mix()
    for window in range(200):
        mix.add(window, scores(window, {"plan": "pro" if window % 2 else "free", "id": str(window)}, 0.5))
    assert mix.fields["id"] is None, "too many values to be categories"
    spans = mix.fields["plan"] or []
    assert len(spans) <= TRAIL and len({text for _, counts in spans for text in counts}) <= MAX_CLASSES
    assert sum(number for _, counts in spans for number, _ in counts.values()) == 200 * 16
    assert sum(total for _, counts in spans for _, total in counts.values()) == 200 * 8
    assert Mix.of(json.loads(json.dumps(mix.plain()))) == mix
    for window in range(200, 210):
        mix.add(window, scores(window, {f"field-{n}": "a" for n in range(10)}))
    assert len(mix.fields) == MAX_FIELDS


def test_nothing_is_said_of_little():
    mix = Mix()
    mix.add(0, scores(0, {"plan": "pro"}))
    mix.add(1, scores(1, {"plan": "free"}, 0.0))
    assert mix.told(1) == {}
