"""One measure over the time of an incident as SVG: a line for all arms, one for each arm, marks and phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Final

from flywheel.incident.effects import Cell, Measure
from flywheel.incident.timeline import Milestones, Phase
from flywheel.incident.wording import clock, figure, visible

WIDTH: Final = 960
HEIGHT: Final = 208
LEFT: Final = 86
RIGHT: Final = WIDTH - 12
TOP: Final = 34
BOTTOM: Final = HEIGHT - 26
ARMS: Final = 9
"""Colours of arms in the page's style: ``arm0`` to ``arm8``, then from the first again."""


def chart(measure: Measure, cells: Sequence[Cell], phases: Sequence[Phase], times: Milestones, *, bucket_s: int) -> str:
    """An SVG element that takes its colours from the page's style; empty where the measure was never seen.

    A bucket in which the measure is not known breaks its line; ``cells`` may be in any order.
    """
    values = [value for cell in cells if (value := measure.read(cell.figures)) is not None]
    if not values or not phases:
        return ""
    first_us, last_us = phases[0].start_us, phases[-1].stop_us
    low, high = min(0.0, *values), max(values)
    high = high if high > low else low + 1.0

    def across(at_us: float) -> float:
        share = (at_us - first_us) / max(last_us - first_us, 1)
        return LEFT + (RIGHT - LEFT) * min(max(share, 0.0), 1.0)

    def up(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (value - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(measure.label, quote=True)} over time">'
    ]
    for phase in phases:
        name = phase.name.replace(" ", "-")
        x, width = across(phase.start_us), across(phase.stop_us) - across(phase.start_us)
        parts.append(
            f'<rect class="phase {name}" x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{BOTTOM - TOP}">'
            f"<title>{escape(phase.name)}: {clock(phase.start_us)} to {clock(phase.stop_us)}</title></rect>"
        )
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>')
    parts += _labels(measure, low, high, first_us, last_us)
    arms = sorted({cell.arm for cell in cells if cell.arm is not None})
    for place, arm in enumerate([*arms, None]):
        of = sorted((cell for cell in cells if cell.arm == arm), key=lambda cell: cell.start_us)
        points = [(None if (value := measure.read(cell.figures)) is None else (cell.start_us, value)) for cell in of]
        style = "whole" if arm is None else f"arm arm{place % ARMS}"
        name = "all arms" if arm is None else visible(arm or "(no arm)", 60)
        for stretch in _stretches(points, bucket_s * 1_000_000):
            middle = [(across(at_us + bucket_s * 500_000), up(value)) for at_us, value in stretch]
            parts.append(_line(middle, style, name))
    parts += _marks(times, across)
    return "\n".join([*parts, "</svg>"])


def _labels(measure: Measure, low: float, high: float, first_us: int, last_us: int) -> list[str]:
    return [
        f'<text x="{LEFT - 6}" y="{TOP + 8}" text-anchor="end">{escape(figure(measure, high))}</text>',
        f'<text x="{LEFT - 6}" y="{BOTTOM}" text-anchor="end">{escape(figure(measure, low))}</text>',
        f'<text x="{LEFT}" y="{HEIGHT - 8}">{clock(first_us)}</text>',
        f'<text x="{RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{clock(last_us)} UTC</text>',
    ]


def _stretches(points: Sequence[tuple[int, float] | None], bucket_us: int) -> list[list[tuple[int, float]]]:
    """Runs of neighbouring buckets; a bucket without a value, or that is not there, ends one."""
    found: list[list[tuple[int, float]]] = []
    before_us: int | None = None
    for point in points:
        if point is None:
            before_us = None
            continue
        if before_us is None or point[0] > before_us + bucket_us:
            found.append([])
        found[-1].append(point)
        before_us = point[0]
    return found


def _line(points: Sequence[tuple[float, float]], style: str, name: str) -> str:
    title = f"<title>{escape(name)}</title>"
    if len(points) == 1:
        return f'<circle class="{style}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2">{title}</circle>'
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{style}" points="{corners}">{title}</polyline>'


def _marks(times: Milestones, across: Callable[[float], float]) -> list[str]:
    told = [
        ("began", times.began_us), ("alert", times.alerted_us), ("action", times.acted_us),
        ("effect", times.effect_us), ("over", times.ended_us),
    ]  # fmt: skip
    parts, free = [], LEFT - 1.0
    for name, at_us in told:
        if at_us is None:
            continue
        # Names of marks that lie close to each other stand beside each other, each with a line to its mark.
        x, width = across(at_us), 7.0 * len(name) + 6.0
        at = min(max(x, free), RIGHT - width)
        free = at + width
        parts.append(
            f'<path class="mark" d="M{at + 3:.1f} 15L{x:.1f} {TOP - 4}V{BOTTOM}">'
            f"<title>{name}: {clock(at_us)} UTC</title></path>"
            f'<text class="marked" x="{at:.1f}" y="12">{name}</text>'
        )
    return parts
