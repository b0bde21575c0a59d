"""What is shown of a policy that was held against logged decisions."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from flywheel.cli.logged_rows import Left
from flywheel.cli.output import console, table
from flywheel.cli.what_if import Slice
from flywheel.stats import better


def why_left(left: Left) -> str:
    return f" ({'; '.join(f'{count} {why}' for why, count in left.counts.items())})" if left.counts else ""


def show(parts: Sequence[Slice], called: str, left: Left) -> None:
    out = console()
    for part in parts:
        _show_part(out, part, called if part.field is None else f"{part.field} = {part.value}")
    if left.counts:
        out.print(f"left out: {'; '.join(f'{count} {why}' for why, count in left.counts.items())}")


def _show_part(out: Console, part: Slice, title: str) -> None:
    found, of = part.found, part.found.diagnosis
    out.print(f"{title}: {of.rows} decisions that earned {found.logged:.4f} ({_ends(found.logged_interval)})")
    out.print(
        f"effective rows {of.effective:.0f}, mean weight {of.mean_weight:.3f} ± {of.mean_weight_error:.3f},"
        f" largest {of.largest_weight:.1f} ({of.largest_share:.1%} of all)"
    )
    if found.refusals:
        for reason in found.refusals:
            out.print(f"refused: {reason}")
        out.print()
        return
    rows = [
        [
            one.name, f"{one.value:.4f}", _ends((one.bounds.low, one.bounds.high)),
            _ends((one.bounds.always_low, one.bounds.always_high)), f"{one.gain:+.4f}",
            _ends((one.gain_bounds.low, one.gain_bounds.high)),
            _ends((one.gain_bounds.always_low, one.gain_bounds.always_high)),
        ]
        for one in found.estimates
    ]  # fmt: skip
    assert found.value_always is not None and found.gain_always is not None
    rows.append(["betting", "", "", _ends(found.value_always), "", "", _ends(found.gain_always)])
    headings = ["estimator", "value", "interval", "at all times", "gain", "interval", "at all times"]
    out.print(table(headings, rows))
    out.print("proven better than the log" if better(found) else "not proven better than the log")
    out.print()


def _ends(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.4f} to {ends[1]:.4f}"
