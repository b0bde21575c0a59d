"""Timeline, phases, figures and the page of an incident: one story told through, and laws for any."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.incident import (
    MEASURES,
    Cell,
    Change,
    Episode,
    Figures,
    Milestones,
    Report,
    Review,
    Step,
    Terms,
    by_phase,
    figure,
    group,
    lasting,
    measure_named,
    measure_of,
    milestones,
    moment,
    page,
    phases,
    review_as_json,
    timeline,
    visible,
)
from flywheel.incident.chart import chart

S = 1_000_000
T = 1_700_000_000 * S
HOUR = 3_600 * S
SINCE = {"since": "2023-11-14T22:13:20Z", "observed": "0.5", "expected": "0.01", "unit": "", "impact": "9 an hour"}
ALERT = Episode(
    "acme", "errors", T + 90 * S, T + 500 * S, T + 500 * S, "error_rate", "critical", scope={"feature": "answers"},
    title="answers: errors", attributes=SINCE, reports=2,
)  # fmt: skip
STEPS = (
    Step("1", "off", "acme", "answers", T + 100 * S, "applied", "disable", rule="errors", arms=("strong",),
         cause=("errors",), value_before=49.0),
    Step("2", "off", "acme", "answers", T + 400 * S, "verified", "disable", rule="errors", arms=("strong",),
         cause=("errors",), value_before=49.0, value_after=0.5),
    Step("3", "ask", "acme", "answers", T + 95 * S, "applied", "pause", rule="idle", cause=("errors",), dry_run=True),
)  # fmt: skip
(INCIDENT,) = group([ALERT], STEPS)
NOW = T + 10 * HOUR


def report(event_id: str, at_s: float, state: str = "firing", **more: Any) -> Report:
    return Report(event_id, "errors", T + round(at_s * S), "error_rate", "critical", state, **more)


def test_the_times_an_incident_is_measured_by() -> None:
    times = milestones(INCIDENT, NOW)
    seconds = [times.began_us, times.alerted_us, times.acted_us, times.effect_us, times.ended_us]
    assert [times.after_s(at) for at in seconds] == [0.0, 90.0, 100.0, 400.0, 500.0]  # a dry run is no action
    unseen = replace(ALERT, attributes={}, ended_us=None)
    (open_one,) = group([unseen])
    assert milestones(open_one, T + HOUR) == Milestones(None, T + 90 * S, None, None, None)
    assert milestones(open_one, T + HOUR).origin_us == T + 90 * S
    (unjudged,) = group([ALERT], STEPS[:1])
    assert milestones(unjudged, NOW).effect_us == T + 500 * S  # nobody judged the action: its alert was resolved


def test_phases_follow_each_other_and_what_has_no_length_is_left_out() -> None:
    cuts = phases(milestones(INCIDENT, NOW), NOW, HOUR)
    assert [(each.name, (each.stop_us - each.start_us) // S) for each in cuts] == [
        ("before", 3600), ("unnoticed", 90), ("noticed", 10), ("acted on", 400), ("after", 3600),
    ]  # fmt: skip
    (unanswered,) = group([replace(ALERT, attributes={}, ended_us=None, last_us=T + 90 * S)])
    assert [each.name for each in phases(milestones(unanswered, T + HOUR), T + HOUR, HOUR)] == ["before", "noticed"]
    assert phases(milestones(INCIDENT, NOW), T + 560 * S, HOUR)[-1].stop_us == T + 560 * S  # nothing is known of later


MAYBE = st.none() | st.integers(0, 1_000)


TIMES = st.builds(Milestones, MAYBE, st.integers(0, 1_000), MAYBE, MAYBE, MAYBE)


@given(TIMES, st.integers(0, 2_000), st.integers(0, 500))
def test_whatever_the_times_phases_are_in_order_without_a_gap(times: Milestones, now: int, around: int) -> None:
    cuts = phases(times, now, around)
    assert all(each.start_us < each.stop_us for each in cuts)
    assert all(one.stop_us == other.start_us for one, other in pairwise(cuts))
    names = [each.name for each in cuts]
    order = ["before", "unnoticed", "noticed", "acted on", "after"]
    assert names == [name for name in order if name in names]


def test_the_timeline_tells_who_did_what_with_the_evidence() -> None:
    told = timeline(
        INCIDENT,
        [report("r1", 90, title="answers: errors", attributes=SINCE), report("r2", 500, "resolved", value=0.01)],
        [Change("c", T - 60 * S, "charter", "answers", "charter abc", "", 4)],
        [Step("4", "hand", "acme", "answers", T + 450 * S, "applied", "override", by="ana", reason="to be sure")],
    )
    assert [(each.sort, each.what, each.who, each.said) for each in told] == [
        ("change", "charter", "", "answers revision 4"),
        ("fact", "began", "", "error_rate began, as the alert told later"),
        ("detection", "firing", "critical", "answers: errors"),
        ("decision", "pause applied (dry run)", "rule idle", "answers"),
        ("decision", "disable applied", "rule errors", "answers (strong)"),
        ("effect", "disable verified", "rule errors", "answers (strong)"),
        ("decision", "override applied", "ana", "answers"),
        ("detection", "resolved", "critical", "error_rate"),
    ]
    assert told[2].detail == "observed 0.5; expected 0.01; impact: 9 an hour"
    assert told[5].detail == "deviation 49 before, 0.5 after"
    assert told[-1].detail == "observed 0.01"
    back = Step("5", "back", "acme", "answers", T, "applied", "rollback", rule="errors", reason="new", change="c")
    assert timeline(INCIDENT, [], [], [back])[1].detail == "new; takes back change c"


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 50)), max_size=20),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 50)), max_size=20),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 50)), max_size=20),
    st.randoms(use_true_random=False),
)
def test_a_timeline_is_sorted_and_tells_everything_once(told: Any, stepped: Any, changed: Any, chance: Any) -> None:
    reports = {f"r{name}": report(f"r{name}", at) for name, at in told}
    steps = {f"s{n}": Step(f"s{n}", "hand", "acme", "answers", T + at * S, "lifted", "override") for n, at in stepped}
    changes = {f"c{name}": Change(f"c{name}", T + at * S, "rules", "acme", "") for name, at in changed}
    given_twice = [*reports.values(), *reports.values()]
    found = timeline(INCIDENT, given_twice, changes.values(), list(steps.values()))
    wanted = [*reports, *steps, *changes, *(step.event_id for step in STEPS), "errors"]  # and when it began
    assert sorted(each.ref for each in found) == sorted(wanted)
    assert [each.at_us for each in found] == sorted(each.at_us for each in found)
    chance.shuffle(given_twice)
    assert timeline(INCIDENT, given_twice, reversed(changes.values()), list(steps.values())[::-1]) == found


def figures(calls: int, errors: int, cost: str, reward: float | None = None) -> Figures:
    return Figures(calls, errors, 0, calls, Decimal(cost), 700.0, 900.0, calls, reward)


def review(*, hostile: str = "", buckets: tuple[Cell, ...] = ()) -> Review:
    times = milestones(INCIDENT, NOW)
    cuts = phases(times, NOW, HOUR)
    rows = [figures(1000, 10, "10", 0.8), figures(100, 50, "2", 0.4), figures(10, 5, "0.2", 0.4), figures(500, 5, "1")]
    cells = [Cell(cut.start_us, None, row) for cut, row in zip(cuts, rows, strict=False)]
    cells += [Cell(cell.start_us, arm, cell.figures) for cell in cells for arm in ("strong", hostile)]
    odd = replace(ALERT, title=hostile or ALERT.title, detail=hostile, kind=hostile or "error_rate",
                  scope={"feature": hostile or "answers", hostile: hostile}, attributes={**SINCE, hostile: hostile},
                  severity=hostile or "critical", project=hostile or "acme")  # fmt: skip
    steps = [replace(step, reason=hostile, rule=hostile, arms=(hostile,), project=odd.project) for step in STEPS]
    (incident,) = group([odd], steps if hostile else STEPS)
    told = [report("r1", 90, title=hostile, detail=hostile, attributes={"observed": hostile, "exemplars": hostile})]
    changes = [Change(hostile or "c", T, hostile, hostile, hostile, hostile)]
    return Review(
        incident, times, "closed", NOW, timeline(incident, told, changes), by_phase(cuts, cells),
        buckets or tuple(cells), 60, (hostile,),
    )  # fmt: skip


def test_what_it_came_to_is_what_came_on_top_of_the_rates_before() -> None:
    found = review().came_to
    assert found is not None and found.calls == 610
    assert found.extra_errors == pytest.approx(60 - 6.1)
    assert found.extra_cost_usd == Decimal("3.2") - Decimal("6.1")  # fewer dollars: the dear arm was off
    assert found.lost_reward == pytest.approx(0.4 * 110)  # the last phase has no reward
    nothing = replace(review(), phases=review().phases[1:])
    assert nothing.came_to is None  # nothing is known of before
    assert review_as_json(nothing, Terms())["impact"] is None
    unpriced = by_phase(phases(milestones(INCIDENT, NOW), NOW, HOUR), [])
    assert [each.whole for each in unpriced] == [Figures()] * 5
    assert replace(review(), phases=unpriced).came_to is None


def test_json_has_every_part() -> None:
    told = review_as_json(review(), Terms())
    assert told["milestones"]["acted"] == {"at": "2023-11-14T22:15:00.000000Z", "after_s": 100.0}
    assert told["phases"][1]["error_rate"] == 0.5 and told["phases"][1]["cost_usd"] == "2"
    assert told["phases"][4]["error_rate"] is None
    assert told["impact"]["extra_cost_usd"] == "-2.900000000000"
    assert [(each["kind"], each["helped"]) for each in told["deeds"]] == [("pause", None), ("disable", True)]
    assert len(told["timeline"]) == 6 and told["episodes"][0]["began_at"] == "2023-11-14T22:13:20.000000Z"


def test_the_measure_an_alert_is_about_comes_first_and_what_was_never_seen_not_at_all() -> None:
    assert [each.name for each in review().measures] == [
        "error_rate", "calls", "cost_per_call", "p50_ms", "p95_ms", "reward",
    ]  # fmt: skip
    assert measure_of("latency").name == "p95_ms" and measure_of("something new").name == "reward"
    assert len({each.name for each in MEASURES}) == len(MEASURES)


class Parsed(HTMLParser):
    """The elements and attributes of a page, and whether each is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


PLAIN = Parsed(page(review()))


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>", '" onmouseover="alert(1)', "' style='x", "</svg></title></style><img src=x>",
        "<!-- ", "]]>", "&lt;script&gt;", "\x00\x1b[31m\u202e\u2066", "x" * 100_000, "{{ 7 * 7 }}", "\n\n",
    ],
)  # fmt: skip
def test_no_text_of_others_becomes_part_of_the_page(hostile: str) -> None:
    made = page(review(hostile=hostile))
    found = Parsed(made)
    assert found.tags == PLAIN.tags
    assert {name for name, _ in found.attributes} == {name for name, _ in PLAIN.attributes}
    assert {value for name, value in found.attributes if name == "class"} <= {
        value for name, value in PLAIN.attributes if name == "class"
    } | {"badge ", ""}
    assert visible(hostile, 40)[:-1] in found.text
    assert made.isascii() or all(c.isprintable() or c == "\n" for c in made)
    assert len(made) < 200_000


@given(st.text(max_size=60))
def test_any_text_is_told_as_text(text: str) -> None:
    found = Parsed(page(review(hostile=text)))
    assert found.tags == PLAIN.tags
    assert visible(text, 60) in found.text


def test_the_page_needs_nothing_from_elsewhere() -> None:
    made = page(review())
    assert made.count("http") == 1 + made.count('xmlns="http://www.w3.org/2000/svg"')  # http-equiv
    assert "default-src 'none'" in made and "prefers-color-scheme: dark" in made
    assert {"script", "link", "img", "a", "form", "object"}.isdisjoint(PLAIN.tags)
    assert "verified: it helped" in PLAIN.text and "1 min 30 s" in PLAIN.text
    (idle,) = group([ALERT])
    bare = replace(review(), incident=idle, phases=(), buckets=())
    assert "No action answers these alerts" in page(bare) and "No calls are recorded" in page(bare)


def test_a_chart_breaks_its_line_where_nothing_is_known() -> None:
    times = milestones(INCIDENT, NOW)
    cuts = phases(times, NOW, HOUR)
    known = [0, 1, 2, 4, 7, 8]  # minutes; in the third nothing was called, the fifth and sixth are not there
    cells = [Cell(T + n * 60 * S, None, figures(10, n, "1")) for n in known] + [Cell(T + 180 * S, None, Figures())]
    drawn = chart(measure_named("error_rate"), cells, cuts, times, bucket_s=60)
    assert (drawn.count("<polyline"), drawn.count("<circle")) == (2, 1)
    assert "80.00 %" in drawn and ">began</text>" in drawn
    assert chart(measure_named("quality"), cells, cuts, times, bucket_s=60) == ""
    assert chart(measure_named("calls"), cells, (), times, bucket_s=60) == ""


@given(st.lists(st.tuples(st.integers(-100, 20_000), st.none() | st.floats(0, 1e9), st.booleans()), max_size=30), TIMES)
def test_whatever_is_drawn_lies_within_the_picture(seen: Any, times: Milestones) -> None:
    cells = [Cell(at, "a" if arm else None, Figures(p95_ms=value)) for at, value, arm in seen]
    drawn = chart(measure_named("p95_ms"), cells, phases(times, 2_000, 500), times, bucket_s=60)
    if drawn:
        Parsed(drawn)
        points = [text.split('"')[0] for text in drawn.split('points="')[1:]]
        for x, y in (pair.split(",") for corners in points for pair in corners.split()):
            assert 0 <= float(x) <= 960 and 0 <= float(y) <= 208


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.0, "0 s"), (4.25, "4.2 s"), (59.6, "1 min"), (295, "4 min 55 s"), (3_600, "1 h"), (90_061, "1 d 1 h"),
        (-75, "-1 min 15 s"), (None, "–"),
    ],
)  # fmt: skip
def test_durations_in_their_two_largest_units(seconds: float | None, told: str) -> None:
    assert lasting(seconds) == told


def test_what_would_steer_a_screen_is_a_dot_and_a_long_text_is_cut() -> None:
    assert visible("a\x1b[2J\u202eb\ud800 \t\n c") == "a·[2J·b· c"
    assert (visible("x" * 30, 10), visible("x" * 10, 10)) == ("x" * 9 + "…", "x" * 10)
    assert visible("x" * 9 + " " * 100 + "y", 10) == "x" * 9 + "…"


def test_figures_with_their_units() -> None:
    of = Figures(calls=12_345, errors=5, priced=10, cost_usd=Decimal("0.0123"), p95_ms=1_234.5)
    shown = [figure(measure_named(name), measure_named(name).read(of)) for name in ("calls", "error_rate", "p95_ms")]
    assert shown == ["12,345", "0.04 %", "1,234 ms"]
    assert figure(measure_named("cost_per_call"), of.cost_per_call) == "0.00123 USD"
    assert (moment(None), figure(measure_named("reward"), None)) == (None, "–")
