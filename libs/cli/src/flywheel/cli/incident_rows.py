"""Alerts, actions, changes and figures of calls out of ClickHouse's views, as the incident library takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from flywheel.cli.periods import within
from flywheel.cli.questions import Rows
from flywheel.control import Silence
from flywheel.incident import Cell, Change, Episode, Figures, Incident, Phase, Report, Step
from flywheel.store import quoted

Ask = Callable[[str], Rows]

MOST: Final = 50_000
"""So many episodes and steps of actions, the newest, are looked at."""
MOST_REPORTS: Final = 5_000
MOST_VERSIONS: Final = 500
MOST_ARMS: Final = 8
"""Arms with the most calls have figures of their own, the rest together."""
OTHERS: Final = "(others)"
BUCKETS_S: Final = (10, 60, 300, 900, 3_600, 21_600, 86_400)
MOST_BUCKETS: Final = 240
_SCOPE: Final[Mapping[str, str]] = MappingProxyType(
    {name: name for name in ("team", "app", "environment", "user_hash", "provider", "prompt_name", "prompt_version")}
)
_REFUSED: Final = "status = 'FILTERED' OR finish_reason IN ('content_filter', 'refusal', 'safety')"
_WINDOW_END: Final = "toUnixTimestamp64Micro(window_end)"
_EPISODE: Final = (
    "project, alert_id, toUnixTimestamp64Micro(started_at), toUnixTimestamp64Micro(last_at),"
    " toUnixTimestamp64Micro(ended_at), kind, severity, reports, subject"
)
_STANDING: Final = "indexOf(['firing', 'acknowledged', 'over', 'resolved'], state), last_at DESC, alert_id"
_CALLED: Final = ("calls", "errors", "refused", "priced", "cost_usd", "p50_ms", "p95_ms")
_JUDGED: Final = ("rewarded", "reward", "quality")
_FULL: Final = (
    f"title, detail, value, threshold, {_WINDOW_END}, scope, attributes, toUnixTimestamp64Micro(acknowledged_at),"
    " acknowledged_by, toUnixTimestamp64Micro(acknowledged_until), note"
)
_REPORT: Final = (
    "event_id, alert_id, toUnixTimestamp64Micro(occurred_at), kind, severity, state, title, detail, value, threshold,"
    " scope, attributes"
)
_SILENCE: Final = (
    "project, silence_id, revision, toUnixTimestamp64Micro(occurred_at), toUnixTimestamp64Micro(starts_at),"
    " toUnixTimestamp64Micro(ends_at), by, reason, features, arms, models, kinds, severities"
)
_SILENCE_FIELDS: Final = (
    "project", "silence_id", "revision", "said_us", "starts_us", "ends_us", "by", "reason", "features", "arms",
    "models", "kinds", "severities",
)  # fmt: skip
_STEPS: Final = (
    "event_id, action_id, project, feature, toUnixTimestamp64Micro(occurred_at), state, kind, by, rule, arms, cause,"
    " value_before, value_after, reason, dry_run, change"
)
_STEP_FIELDS: Final = (
    "event_id", "action_id", "project", "feature", "at_us", "state", "kind", "by", "rule", "arms", "cause",
    "value_before", "value_after", "reason", "dry_run", "change",
)  # fmt: skip


def episodes(ask: Ask, *, project: str | None = None, most: int = MOST) -> list[Episode]:
    """The newest ``most`` episodes of alerts; of their texts and attributes only what grouping needs, cut."""
    where = "" if project is None else f" WHERE project = {quoted(project)}"
    slim = "mapFilter((name, text) -> name IN ('cause', 'since') AND length(text) < 200, attributes)"
    return _episodes(
        ask, f"substringUTF8(title, 1, 300), '', value, threshold, {_WINDOW_END}, scope, {slim}", where, most
    )


def whole(ask: Ask, incident: Incident) -> Incident:
    """An incident whose episodes have all their texts and attributes."""
    alerts = _among("alert_id", sorted({each.alert_id for each in incident.episodes}))
    where = (
        f" WHERE project = {quoted(incident.project)} AND {alerts}"
        f" AND started_at <= fromUnixTimestamp64Micro({incident.episodes[-1].started_us}, 'UTC')"
    )
    found = {(each.alert_id, each.started_us): each for each in _episodes(ask, _FULL, where, MOST_REPORTS)}
    return replace(
        incident, episodes=tuple(found.get((each.alert_id, each.started_us), each) for each in incident.episodes)
    )


def standing(ask: Ask, chosen: Sequence[str], most: int) -> list[tuple[str, Episode]]:
    """How alerts stand for which all of the conditions hold (firing, acknowledged, over or resolved), and the newest
    episode of each. Those that fire come first, then the newest."""
    where = f" WHERE {' AND '.join(chosen)}" if chosen else ""
    found = ask(f"SELECT state, {_EPISODE}, {_FULL} FROM v_alert_states{where} ORDER BY {_STANDING} LIMIT {most:d}")
    return [(state, Episode(*row)) for state, *row in found.rows]


def _episodes(ask: Ask, told: str, where: str, most: int) -> list[Episode]:
    found = ask(
        f"SELECT {_EPISODE}, {told} FROM v_alert_episodes{where} ORDER BY last_at DESC, alert_id LIMIT {most:d}"
    )
    return [Episode(*row) for row in found.rows]


def answering_steps(ask: Ask, *, project: str | None = None, most: int = MOST) -> list[Step]:
    """The newest ``most`` steps of actions that answer alerts."""
    where = "" if project is None else f" AND project = {quoted(project)}"
    found = ask(
        f"SELECT {_STEPS} FROM v_actions WHERE notEmpty(cause){where} ORDER BY occurred_at DESC,"
        f" event_id LIMIT {most:d}"
    )
    return [_step(row) for row in found.rows]


def other_steps(ask: Ask, incident: Incident, period: tuple[int, int]) -> list[Step]:
    """What people put in force for the incident's features meanwhile: steps that answer no alert."""
    where = f"project = {quoted(incident.project)} AND empty(cause) AND {_among('feature', incident.features)}"
    found = ask(
        f"SELECT {_STEPS} FROM v_actions WHERE {where} AND {within(*period)}"
        f" ORDER BY occurred_at, event_id LIMIT {MOST_REPORTS}"
    )
    return [_step(row) for row in found.rows]


def reports(ask: Ask, incident: Incident) -> list[Report]:
    """Every report of an incident's alerts while they fired, at most the first 5,000."""
    found = ask(
        f"SELECT {_REPORT} FROM v_alerts WHERE project = {quoted(incident.project)}"
        f" AND {_among('alert_id', sorted({each.alert_id for each in incident.episodes}))}"
        f" AND {within(incident.started_us, incident.last_us + 1)}"
        f" ORDER BY occurred_at, event_id LIMIT {MOST_REPORTS}"
    )
    told = [Report(*row) for row in found.rows]
    spans = [(each.alert_id, each.started_us, each.last_us) for each in incident.episodes]
    return [each for each in told if any(i == each.alert_id and s <= each.at_us <= u for i, s, u in spans)]


def reports_of(ask: Ask, project: str, alert_id: str, most: int) -> list[Report]:
    """The newest ``most`` reports of an alert, and what people said to it, the oldest first."""
    where = f"project = {quoted(project)} AND alert_id = {quoted(alert_id)}"
    found = ask(f"SELECT {_REPORT} FROM v_alerts WHERE {where} ORDER BY occurred_at DESC, event_id LIMIT {most:d}")
    return [Report(*row) for row in reversed(found.rows)]


def silences(ask: Ask, until_us: int) -> list[Silence]:
    """The silences that were not over at a time, by what is recorded."""
    found = ask(
        f"SELECT {_SILENCE} FROM v_silences WHERE NOT lifted AND ends_at > fromUnixTimestamp64Micro({until_us}, 'UTC')"
        f" ORDER BY ends_at DESC LIMIT {MOST}"
    )
    return [Silence(**dict(zip(_SILENCE_FIELDS, (_held(part) for part in row), strict=True))) for row in found.rows]


def _held(part: Any) -> Any:
    return tuple(part) if isinstance(part, list) else part


def changes(ask: Ask, incident: Incident, period: tuple[int, int]) -> list[Change]:
    """Changes of the configuration in a period that may bear on an incident: of its features' charters, and people's
    controls and silences; of its project's budgets, rules and prices. What the controller put in force is told by its
    actions."""
    project, when = quoted(incident.project), within(*period)
    features = _among("subject", incident.features)
    declared = ask(
        "SELECT change_id, toUnixTimestamp64Micro(occurred_at), what, subject, said, by, revision FROM v_changes"
        f" WHERE project = {project} AND {when} AND (what IN ('budget', 'rules', 'silence') OR what = 'charter'"
        f" AND {features} OR what = 'control' AND by != 'controller' AND {features})"
        f" ORDER BY occurred_at, change_id LIMIT {MOST_REPORTS}"
    )
    priced = ask(
        "SELECT toUnixTimestamp64Micro(min(repriced_at)), ifNull(price_version, ''), count() FROM v_reprices"
        f" WHERE project = {project} AND {when.replace('occurred_at', 'repriced_at')}"
        " GROUP BY price_version ORDER BY 1 LIMIT 100"
    )
    return [Change(*row) for row in declared.rows] + [
        Change(f"reprice {version} {at_us}", at_us, "prices", version, f"{count} calls were priced again")
        for at_us, version, count in priced.rows
    ]


def versions(ask: Ask, incident: Incident, period: tuple[int, int]) -> list[Change]:
    """Versions of an arm's model and prompt, and of the prices, that were first seen in a period.

    What is news is judged by the calls of the period and of as much time before it: the first version of each is none.
    """
    start_us, stop_us = period
    found = ask(
        "SELECT toUnixTimestamp64Micro(min(occurred_at)) AS first, version.1, version.2, version.3, count() FROM ("
        " SELECT occurred_at, arrayJoin([('model', ifNull(variant, ''), ifNull(response_model, request_model)),"
        " ('prompt', ifNull(variant, ''), concat(ifNull(prompt_name, ''), '@', ifNull(prompt_version, ''))),"
        " ('prices', '', ifNull(price_version, ''))]) AS version"
        f" FROM v_calls WHERE {facts_of(incident)} AND {within(start_us - (stop_us - start_us), stop_us)})"
        f" WHERE version.3 NOT IN ('', '@') GROUP BY version ORDER BY first, version LIMIT {MOST_VERSIONS}"
    )
    known: set[tuple[str, str]] = set()
    news = []
    for at_us, what, arm, version, count in found.rows:
        if (what, arm) in known and at_us >= start_us:
            said = f"{version} first seen, {count} calls since"
            news.append(Change(f"{what} {arm} {version}", at_us, f"new {what}", arm, said))
        known.add((what, arm))
    return news


def bucket_s(start_us: int, stop_us: int) -> int:
    """The shortest bucket of which at most 240 cover a period, in seconds."""
    seconds = (stop_us - start_us) / 1e6
    return next((each for each in BUCKETS_S if seconds <= each * MOST_BUCKETS), BUCKETS_S[-1])


def by_bucket(ask: Ask, incident: Incident, period: tuple[int, int], seconds: int) -> list[Cell]:
    """Figures of every ``seconds``, of all arms and of each."""
    start = f"toUnixTimestamp(toStartOfInterval(occurred_at, INTERVAL {seconds:d} SECOND)) * 1000000"
    return _cells(ask, incident, period, start)


def by_phase_and_arm(ask: Ask, incident: Incident, phases: Sequence[Phase]) -> list[Cell]:
    """Figures of every phase, of all arms and of each; ``start_us`` is that of the phase."""
    if not phases:
        return []
    until = "".join(
        f"occurred_at < fromUnixTimestamp64Micro({each.stop_us}, 'UTC'), {each.start_us}, " for each in phases
    )
    return _cells(ask, incident, (phases[0].start_us, phases[-1].stop_us), f"multiIf({until}0)")


def _cells(ask: Ask, incident: Incident, period: tuple[int, int], start: str) -> list[Cell]:
    where = f"{facts_of(incident)} AND {within(*period)}"
    arms = _arms(ask, where)
    one_call = _one_of("ifNull(variant, '')", arms)
    found: dict[tuple[int, str | None], dict[str, Any]] = {}
    for arm in ("NULL", one_call):
        called = ask(
            f"SELECT toInt64({start}) AS cell, {arm} AS one, count(), countIf(status IN ('ERROR', 'TIMEOUT')),"
            f" countIf({_REFUSED}), countIf(cost_usd IS NOT NULL), toString(sum(cost_usd)),"
            " quantileTDigestIf(0.5)(latency_ms, status = 'OK'), quantileTDigestIf(0.95)(latency_ms, status = 'OK')"
            f" FROM v_calls WHERE {where} GROUP BY cell, one ORDER BY cell, one"
        )
        for cell, one, *figures in called.rows:
            found[cell, one] = dict(zip(_CALLED, figures, strict=True))
    judged = f"{facts_of(incident, outcomes=True)} AND {within(*period)}"
    for arm in ("NULL", _one_of("arm", arms)):
        rewarded = ask(
            f"SELECT toInt64({start}) AS cell, {arm} AS one, count(reward), avg(reward), avg(quality)"
            f" FROM v_outcomes WHERE {judged} GROUP BY cell, one ORDER BY cell, one"
        )
        for cell, one, *figures in rewarded.rows:
            found.setdefault((cell, one), {}).update(zip(_JUDGED, figures, strict=True))
    return [Cell(start_us, arm, _figures(row)) for (start_us, arm), row in found.items()]


def _arms(ask: Ask, where: str) -> list[str]:
    found = ask(
        f"SELECT ifNull(variant, '') AS arm FROM v_calls WHERE {where} GROUP BY arm ORDER BY count() DESC, arm"
        f" LIMIT {MOST_ARMS}"
    )
    return [str(row[0]) for row in found.rows]


def _one_of(arm: str, arms: Sequence[str]) -> str:
    return f"if({_among(arm, arms)}, toString({arm}), {quoted(OTHERS)})"


def facts_of(incident: Incident, *, outcomes: bool = False) -> str:
    """The SQL condition on calls or outcomes that an incident is about: its features, else what its alerts' scopes have
    in common, as far as the rows tell."""
    parts = [f"project = {quoted(incident.project)}"]
    if not outcomes:
        parts.append("NOT shadow")
    if incident.features:
        return " AND ".join([*parts, _among("feature", incident.features)])
    scopes = [each.scope for each in incident.causes]
    common = {name: value for name, value in scopes[0].items() if all(of.get(name) == value for of in scopes)}
    known = ("team", "app", "environment", "user_hash") if outcomes else tuple(_SCOPE)
    parts += [f"{name} = {quoted(common[name])}" for name in known if name in common]
    if "model" in common:
        model = quoted(common["model"])
        asked = f"(request_model = {model} OR ifNull(response_model, '') = {model})"
        parts.append(f"model = {model}" if outcomes else asked)
    return " AND ".join(parts)


def _among(column: str, names: Sequence[str]) -> str:
    return f"{column} IN ({', '.join(quoted(name) for name in names)})" if names else "false"


def _step(row: Sequence[Any]) -> Step:
    told = dict(zip(_STEP_FIELDS, row, strict=True))
    return Step(
        **{**told, "arms": tuple(told["arms"]), "cause": tuple(told["cause"]), "dry_run": bool(told["dry_run"])}
    )


def _figures(row: Mapping[str, Any]) -> Figures:
    """Figures of a row. ClickHouse's sum over no price is NULL, its quantile over no call too."""
    cost = row.get("cost_usd")
    return Figures(**{**row, "cost_usd": None if cost is None else Decimal(cost)})
