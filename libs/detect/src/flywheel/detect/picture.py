"""A series with its scores and alarms as SVG, small enough to look at whatever the number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from flywheel.detect.alarms import Kind, Scored

WIDTH: Final = 1_200
LINE_HEIGHT: Final = 160
SCORE_HEIGHT: Final = 50
GAP: Final = 40
LEFT: Final = 80
COLUMNS: Final = 1_000
COLOURS: Final[dict[Kind, str]] = {
    "anomaly": "#d62728",
    "level_change": "#1f77b4",
    "drift": "#9467bd",
    "silence": "#7f7f7f",
}


def picture(series: Sequence[tuple[str, Sequence[Scored]]]) -> str:
    """An SVG document with a panel for each named series: values, scores below, alarms as coloured lines.

    More rows than 1,000 are shown as the range of each thousandth, so no spike is lost.
    """
    panel = LINE_HEIGHT + SCORE_HEIGHT + GAP
    height = panel * max(len(series), 1) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
        'font-size="11"><rect width="100%" height="100%" fill="white"/>'
    ]
    parts += [
        f'<text x="{LEFT + 120 * place}" y="16" fill="{colour}">{kind.replace("_", " ")}</text>'
        for place, (kind, colour) in enumerate(COLOURS.items())
    ]
    for place, (name, rows) in enumerate(series):
        parts += _panel(name, rows, top=GAP + panel * place)
    return "\n".join([*parts, "</svg>\n"])


def _panel(name: str, rows: Sequence[Scored], *, top: int) -> list[str]:
    parts = [f'<text x="{LEFT}" y="{top - 6}">{escape(name)}</text>']
    if not rows:
        return parts
    low, high = min(row.value for row in rows), max(row.value for row in rows)
    bottom, floor = top + LINE_HEIGHT, top + LINE_HEIGHT + SCORE_HEIGHT
    step = (WIDTH - LEFT - 10) / max(len(rows), 1)

    def down(value: float) -> float:
        return bottom - (value - low) / ((high - low) or 1.0) * LINE_HEIGHT

    for at, row in enumerate(rows):
        for alarm in row.alarms:
            x = LEFT + step * at
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{floor}" stroke="{COLOURS[alarm.kind]}" '
                f'stroke-opacity=".6"><title>{escape(alarm.kind)}: {alarm.observed:.6g}, expected '
                f"{alarm.expected:.6g}</title></line>"
            )
    line, scores = [], []
    width = max(1, -(-len(rows) // COLUMNS))
    for start in range(0, len(rows), width):
        some = rows[start : start + width]
        x = LEFT + step * start
        least, most = min(row.value for row in some), max(row.value for row in some)
        line.append(f"{x:.1f},{down(least):.1f} {x:.1f},{down(most):.1f}")
        scores.append(f"{x:.1f},{floor - SCORE_HEIGHT * 0.9 * max(row.score for row in some):.1f}")
    parts.append(f'<polyline fill="none" stroke="#333" stroke-width=".8" points="{" ".join(line)}"/>')
    parts.append(f'<polyline fill="none" stroke="#ff7f0e" stroke-width=".8" points="{" ".join(scores)}"/>')
    parts.append(f'<text x="{LEFT - 6}" y="{top + 10}" text-anchor="end">{high:.4g}</text>')
    parts.append(f'<text x="{LEFT - 6}" y="{bottom}" text-anchor="end">{low:.4g}</text>')
    parts.append(f'<text x="{LEFT - 6}" y="{floor}" text-anchor="end">score</text>')
    return parts
