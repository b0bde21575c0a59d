"""A review as one self-contained page of HTML: nothing is loaded, nothing runs, every text of others is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from flywheel.incident.chart import ARMS, chart
from flywheel.incident.effects import Measure
from flywheel.incident.records import Episode, Figures
from flywheel.incident.review import Deed, Review
from flywheel.incident.wording import clock, figure, lasting, visible

MOST_ENTRIES: Final = 1_000
"""Lines of the timeline that the page shows; the rest is counted."""
_SEVERITIES: Final = ("info", "warning", "critical")
_HELPED: Final = {True: "verified: it helped", False: "undone: it did not help", None: "not judged"}
_STYLE: Final = """
:root { color-scheme: light dark; --page: #ffffff; --text: #1b1f24; --soft: #5b6470; --line: #d5d9df; --shade: #f4f5f7;
  --info: #0072b2; --warning: #a06000; --critical: #b3261e; --phase: #e8b4b0;
  --arm0: #0072b2; --arm1: #d55e00; --arm2: #009e73; --arm3: #cc79a7; --arm4: #b58900; --arm5: #56b4e9;
  --arm6: #8c564b; --arm7: #7f7f7f; --arm8: #17becf; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --text: #e6e8eb; --soft: #a0a8b3; --line: #3a414a;
  --shade: #1e2329; --info: #56b4e9; --warning: #e8a33d; --critical: #ff8a80; --phase: #6b2f2b;
  --arm0: #3f9be0; --arm1: #ff8c42; --arm2: #35c79b; --arm6: #c48a7a; --arm7: #a0a0a0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .2em 0; } h2 { font-size: 1.1rem; margin: 2em 0 .5em; }
p { margin: .4em 0; } .soft { color: var(--soft); } code { font-size: .9em; }
.badge { display: inline-block; padding: 0 .6em; border: 1px solid currentColor; border-radius: 1em;
  font-size: .85rem; }
.info { color: var(--info); } .warning { color: var(--warning); } .critical { color: var(--critical); }
.glance { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 8px; }
.glance div { background: var(--shade); border: 1px solid var(--line); border-radius: 6px; padding: 8px 10px; }
.glance b { display: block; font-size: 1.1rem; } .glance span { color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: 4px 8px; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } td.number, th.number { text-align: right; white-space: nowrap; }
td.time { white-space: nowrap; } tr.arm td { color: var(--soft); border-bottom-style: dotted; }
figure { margin: 0 0 12px; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; } svg text { fill: var(--soft); }
svg .axis { fill: none; stroke: var(--line); } svg .mark { fill: none; stroke: var(--text); stroke-dasharray: 3 3; }
svg text.marked { fill: var(--text); } svg .phase { fill: transparent; }
svg .unnoticed, svg .noticed, svg .acted-on { fill: var(--phase); fill-opacity: .55; }
svg .noticed { fill-opacity: .4; } svg .acted-on { fill-opacity: .2; }
svg polyline { fill: none; } svg .whole { stroke: var(--text); stroke-width: 2; }
svg circle.whole { fill: var(--text); }
svg .arm { stroke-width: 1.2; }
@media print { body { max-width: none; padding: 0; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""


def page(review: Review) -> str:
    """Return the page. It is the same for the same review, and needs neither network nor script to be read."""
    lead = review.incident.lead
    arms = "".join(
        f"svg polyline.arm{n} {{ stroke: var(--arm{n}); }} svg circle.arm{n}, .key{n} {{ fill: var(--arm{n}); "
        f"color: var(--arm{n}); }}\n"
        for n in range(ARMS)
    )
    title = _text(lead.title or lead.kind)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Incident: {title}</title>",
        f"<style>{_STYLE}{arms}</style></head><body>",
        *_head(review, title),
        *_glance(review),
        *_came_to(review),
        *_deeds(review.deeds),
        *_charts(review),
        *_phases(review),
        *_alerts(review.incident.episodes),
        *_timeline(review),
        *_notes(review),
        "</body></html>",
        "",
    ]
    return "\n".join(parts)


def _head(review: Review, title: str) -> list[str]:
    incident = review.incident
    about = _text(", ".join(incident.features) or incident.lead.subject)
    return [
        f'<p><span class="badge {_severity(incident.severity)}">{_text(incident.severity)}</span> '
        f'<span class="badge">{review.state}</span></p>',
        f"<h1>{title}</h1>",
        f'<p class="soft">{_text(incident.project)} / {about} · {_text(", ".join(incident.kinds))} · '
        f"incident <code>{incident.incident_id}</code> · as known at {clock(review.now_us)} UTC</p>",
    ]


def _glance(review: Review) -> list[str]:
    times = review.times
    told = [
        ("began" if times.began_us is not None else "first alert", clock(times.origin_us)),
        ("noticed after", lasting(times.after_s(times.alerted_us)) if times.began_us is not None else "–"),
        ("acted on after", lasting(times.after_s(times.acted_us))),
        ("effect after", lasting(times.after_s(times.effect_us))),
        ("over after", lasting(times.after_s(times.ended_us))),
    ]
    cells = [f"<div><span>{name}</span><b>{_text(value)}</b></div>" for name, value in told]
    return ['<section class="glance">', *cells, "</section>"]


def _came_to(review: Review) -> list[str]:
    found = review.came_to
    if found is None:
        return []
    told = []
    if found.extra_errors is not None:
        told.append(f"{found.extra_errors:+,.1f} errors")
    if found.extra_refusals:
        told.append(f"{found.extra_refusals:+,.1f} refusals")
    if found.extra_cost_usd is not None:
        told.append(f"{found.extra_cost_usd:+,.4f} USD")
    if found.lost_reward is not None:
        told.append(f"{-found.lost_reward:+,.2f} of reward")
    if not told:
        return []
    return [
        "<h2>What it came to</h2>",
        f"<p>{_text(', '.join(told))} in {found.calls:,} calls, beside what the rates before it would have given.</p>",
    ]


def _deeds(found: Sequence[Deed]) -> list[str]:
    if not found:
        return ["<h2>What was done</h2>", '<p class="soft">No action answers these alerts.</p>']
    rows = []
    for deed in found:
        last = deed.steps[-1]
        before = next((step.value_before for step in deed.steps if step.value_before is not None), None)
        after = next((step.value_after for step in reversed(deed.steps) if step.value_after is not None), None)
        rows.append(
            _row(
                [
                    deed.kind, ", ".join(deed.arms), deed.who, deed.outcome, _HELPED[deed.helped],
                    f"{_short(before)} → {_short(after)}", last.reason,
                ]
            )
        )  # fmt: skip
    columns = ["action", "arms", "who", "steps", "verdict", "deviation", "why"]
    return ["<h2>What was done</h2>", *_table(columns, rows)]


def _charts(review: Review) -> list[str]:
    shown = [cell for cell in review.buckets if cell.arm is None or cell.arm in review.arms]
    parts = []
    for measure in review.measures:
        drawn = chart(measure, shown, [each.phase for each in review.phases], review.times, bucket_s=review.bucket_s)
        if drawn:
            parts.append(f"<figure><figcaption>{_text(measure.label)}</figcaption>{drawn}</figure>")
    if not parts:
        return []
    keys = [
        f'<span class="key{place % ARMS}">■</span> {_text(arm or "(no arm)")}' for place, arm in enumerate(review.arms)
    ]
    legend = " &nbsp; ".join(["■ all arms", *keys])
    return ["<h2>Facts</h2>", f'<p class="soft">each {lasting(review.bucket_s)}: {legend}</p>', *parts]


def _phases(review: Review) -> list[str]:
    measures = review.measures
    if not measures:
        return ["<h2>Before, during, after</h2>", '<p class="soft">No calls are recorded of that time.</p>']
    rows = []
    for each in review.phases:
        about = [each.phase.name, lasting((each.phase.stop_us - each.phase.start_us) / 1e6)]
        rows.append(_figures_row(about, each.whole, measures, ""))
        for arm in review.arms:
            if arm in each.arms:
                rows.append(_figures_row([arm or "(no arm)", ""], each.arms[arm], measures, "arm"))
    columns = ["phase", "lasting", *(each.label for each in measures)]
    return ["<h2>Before, during, after</h2>", *_table(columns, rows, numbers_from=2)]


def _figures_row(about: Sequence[str], figures: Figures, measures: Sequence[Measure], style: str) -> str:
    cells = [f"<td>{_text(text)}</td>" for text in about]
    cells += [f'<td class="number">{_text(figure(each, each.read(figures)))}</td>' for each in measures]
    return f'<tr class="{style}">' + "".join(cells) + "</tr>"


def _alerts(episodes: Sequence[Episode]) -> list[str]:
    rows = []
    for each in episodes[:MOST_ENTRIES]:
        scope = ", ".join(f"{name}={value}" for name, value in sorted(each.scope.items()))
        seen = f"{_short(each.observed)}, expected {_short(each.expected)}"
        evidence = "; ".join(f"{name}: {value}" for name, value in sorted(each.attributes.items()))
        over = clock(each.ended_us) if each.ended_us is not None else "–"
        rows.append(
            f'<tr><td class="time">{clock(each.started_us)}</td><td class="time">{over}</td>'
            f'<td class="{_severity(each.severity)}">{_text(each.severity)}</td><td>{_text(each.kind)}</td>'
            f"<td>{_text(each.title)}<br><span class='soft'>{_text(scope)}</span></td><td>{_text(seen)}</td>"
            f"<td class='soft'>{_text(evidence)}</td></tr>"
        )
    columns = ["fired", "resolved", "severity", "kind", "alert", "seen", "evidence"]
    return ["<h2>Alerts</h2>", *_table(columns, rows)]


def _timeline(review: Review) -> list[str]:
    origin_us, rows = review.times.origin_us, []
    for each in review.entries[:MOST_ENTRIES]:
        since = lasting((each.at_us - origin_us) / 1e6)
        about = f"{_text(each.said)}<br><span class='soft'>{_text(each.detail)}</span>" if each.detail else ""
        rows.append(
            f'<tr><td class="time">{clock(each.at_us)}</td><td class="number">{since}</td><td>{each.sort}</td>'
            f"<td>{_text(each.what)}</td><td>{_text(each.who)}</td><td>{about or _text(each.said)}</td></tr>"
        )
    columns = ["time (UTC)", "since it began", "", "what", "who", ""]
    left = len(review.entries) - len(rows)
    more = [f'<p class="soft">{left} more lines are left out.</p>'] if left > 0 else []
    return ["<h2>Timeline</h2>", *_table(columns, rows), *more]


def _notes(review: Review) -> list[str]:
    told = [*review.notes, f"Made by: flywheel incident show {review.incident.incident_id}"]
    return [*(f'<p class="soft">{_text(note)}</p>' for note in told)]


def _table(columns: Sequence[str], rows: Iterable[str], *, numbers_from: int | None = None) -> list[str]:
    heads = "".join(
        f'<th class="number">{_text(name)}</th>'
        if numbers_from is not None and place >= numbers_from
        else f"<th>{_text(name)}</th>"
        for place, name in enumerate(columns)
    )
    return [f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>', *rows, "</tbody></table></div>"]


def _row(cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in cells) + "</tr>"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _severity(text: str) -> str:
    """The style's class of a severity: only names of ours get into an attribute."""
    return text if text in _SEVERITIES else ""


def _text(text: str) -> str:
    return escape(visible(text), quote=True)
