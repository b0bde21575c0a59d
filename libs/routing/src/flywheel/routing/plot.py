"""The frontier of every router as a picture: SVG, quality over cost."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from flywheel.routing.compare import Comparison
from flywheel.routing.metrics import Frontier

WIDTH: Final = 760
HEIGHT: Final = 460
LEFT: Final = 70
RIGHT: Final = WIDTH - 210
TOP: Final = 30
BOTTOM: Final = HEIGHT - 50
TICKS: Final = 5
COLOURS: Final = (
    *("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00"),
    *("#56b4e9", "#7f7f7f", "#8c564b", "#17becf", "#bcbd22"),
)
"""Okabe, Ito (2008), told apart by most eyes; then more."""
LEFT_OUT: Final = frozenset({"best single"})


def frontier_svg(found: Comparison, *, title: str, cost_label: str) -> str:
    """A picture of the frontiers of the first seed, ours first, with the single models' hull.

    Raises:
        ValueError: the comparison has no costs.
    """
    if found.zero is None:
        raise ValueError("there are no costs, so there is no frontier to draw")
    lines = [(row.name, row.frontier) for row in found.rows if row.frontier is not None and row.name not in LEFT_OUT]
    lines.sort(key=lambda line: line[0] != found.ours)
    drawn: list[tuple[str, Frontier]] = [*lines, ("Zero router", found.zero)]
    low_x, high_x = _bounds([front.cost.tolist() for _, front in drawn])
    low_y, high_y = _bounds([front.quality.tolist() for _, front in drawn])

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - low_x) / (high_x - low_x), (y - low_y) / (high_y - low_y)
        return LEFT + (RIGHT - LEFT) * across, BOTTOM - (BOTTOM - TOP) * up

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>',
        *_axes(low_x, high_x, low_y, high_y, cost_label),
    ]
    for number, (name, front) in enumerate(drawn):
        style = f'stroke="{COLOURS[number % len(COLOURS)]}" stroke-width="{3 if name == found.ours else 1.5}"'
        style += ' stroke-dasharray="5 4"' if name == "Zero router" else ""
        corners = [place(x, y) for x, y in zip(front.cost.tolist(), front.quality.tolist(), strict=True)]
        corners.append(place(high_x, float(front.quality[-1])))
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        parts.append(f'<polyline points="{points}" fill="none" {style}/>')
        at = TOP + 16 * number
        parts.append(f'<path d="M{RIGHT + 12} {at}h24" {style}/>')
        parts.append(f'<text x="{RIGHT + 42}" y="{at + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _bounds(found: Sequence[Sequence[float]]) -> tuple[float, float]:
    values = [value for line in found for value in line]
    low, high = min(values), max(values)
    room = 0.03 * (high - low) or 0.5
    return low - room, high + room


def _axes(low_x: float, high_x: float, low_y: float, high_y: float, cost_label: str) -> list[str]:
    parts = [f'<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="black"/>']
    for tick in range(TICKS + 1):
        share = tick / TICKS
        x, y = LEFT + share * (RIGHT - LEFT), BOTTOM - share * (BOTTOM - TOP)
        at_x, at_y = low_x + share * (high_x - low_x), low_y + share * (high_y - low_y)
        parts.append(f'<text x="{x:.1f}" y="{BOTTOM + 16}" text-anchor="middle">{at_x:.3g}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{at_y:.3f}</text>')
    middle = f"{(LEFT + RIGHT) / 2:g}"
    parts.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{escape(cost_label)}</text>')
    height = f"{(TOP + BOTTOM) / 2:g}"
    turned = f'transform="rotate(-90 16 {height})" text-anchor="middle"'
    parts.append(f'<text x="16" y="{height}" {turned}>mean score</text>')
    return parts
