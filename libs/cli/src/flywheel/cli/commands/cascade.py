"""``flywheel cascade calibrate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, get_args

import click
import numpy as np

from flywheel.cli.addresses import current_addresses
from flywheel.cli.file_lines import called, limited_lines
from flywheel.cli.judged_answers import JudgedAnswer, read_answers, recorded_answers, recorded_query
from flywheel.cli.output import console, fail, json_option, print_json, table
from flywheel.cli.questions import QueryFailed, ask
from flywheel.policy.cascade import DoubtKind, break_even_doubt
from flywheel.routing.answer_doubt import cross_fitted_doubts, fit_doubt
from flywheel.routing.calibration import Calibrated, TooFew, calibrate, check_enough

_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
_THRESHOLDS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


@click.group()
def cascade() -> None:
    """Cascades: a cheap model first, a strong one where its answer is doubted."""


@cascade.command("calibrate")
@click.argument("files", nargs=-1, type=_FILE)
@click.option("--feature", help="Instead of files: what ClickHouse knows of this feature's judged answers.")
@click.option("--project", default="default", show_default=True)
@click.option("--most", type=click.IntRange(1, 1_000_000), default=50_000, show_default=True, help="Newest ones taken.")
@click.option(
    "--doubt",
    "kind",
    type=click.Choice(get_args(DoubtKind)),
    default="form",
    show_default=True,
    help="What doubts are read from on lines that have an answer.",
)
@click.option("--folds", type=click.IntRange(2, 50), default=5, show_default=True, help="Folds of the cross-fitting.")
@click.option(
    "--draws", type=click.IntRange(100, 10_000), default=500, show_default=True, help="Draws of the bootstrap."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of folds and draws.")
@click.option("--extra-usd", type=click.FloatRange(0), help="What the strong call costs, US dollars.")
@click.option(
    "--price",
    type=click.FloatRange(0),
    help="Reward a dollar is worth: weights.cost / reference.cost_usd of the charter.",
)
@click.option(
    "--gain",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Quality that the strong call gains where the first answer was wrong.",
)
@json_option
def calibrate_doubts(
    *,
    files: tuple[Path, ...],
    feature: str | None,
    project: str,
    most: int,
    kind: DoubtKind,
    folds: int,
    draws: int,
    seed: int,
    extra_usd: float | None,
    price: float | None,
    gain: float,
    as_json: bool,
) -> None:
    """Turn judged answers in FILES (JSONL; - is standard input), or in ClickHouse, into the calibration of an arm's
    plan.

    A line is {"doubt": 0..1, "ok": 0 or 1}; instead of doubt {"answer": "...", "question": "...", "finish_reason":
    "...", "logprobs": [...], "wants_json": true, "tool_calls": 0}, instead of ok {"score": 0..1}; "weight" says for how
    many answers it stands. With --doubt learned the doubt itself is learned from these answers. What is said of errors
    is cross-fitted. Lines that cannot be read are named and skipped; then the exit code is 1.
    """
    if (extra_usd is None) != (price is None):
        raise click.UsageError("--extra-usd and --price belong together")
    if bool(files) == (feature is not None):
        raise click.UsageError("name FILES or --feature, one of them")
    if feature is not None and kind == "learned":
        raise click.UsageError("a doubt is learned from the answers' texts, so from FILES")
    bad: list[dict[str, Any]] = []
    answers = _collected(files, kind, bad) if feature is None else _recorded(project, feature, most)
    if not answers:
        fail("there is no answer to learn from")
    raw, wrong, weights = (np.array([each[place] for each in answers]) for place in range(3))
    learned: tuple[float, ...] = ()
    try:
        check_enough(wrong, folds=folds)
        if kind == "learned":
            signals = np.array([each.signals for each in answers])
            raw = cross_fitted_doubts(signals, wrong, weights, folds=folds, seed=seed)
            learned = fit_doubt(signals, wrong, weights)
        found = calibrate(raw, wrong, weights, folds=folds, draws=draws, seed=seed)
    except TooFew as error:
        fail(str(error))
    above = None if extra_usd is None or price is None else break_even_doubt(extra_usd, price, gain)
    steps = [_step(found, wrong, weights, each) for each in sorted({*_THRESHOLDS, *([] if above is None else [above])})]
    if as_json:
        print_json({**_as_json(found, len(answers), above, steps, bad), "weights": list(learned)})
    else:
        _show(found, len(answers), above, steps)
        if learned:
            console().print(f"weights: [{', '.join(f'{value:g}' for value in learned)}]", markup=False)
    if bad:
        fail(f"{len(bad)} of {len(bad) + len(answers)} lines could not be used")


def _collected(files: tuple[Path, ...], kind: DoubtKind, bad: list[dict[str, Any]]) -> list[JudgedAnswer]:
    answers: list[JudgedAnswer] = []
    for file in files:
        name = called(file)
        with click.open_file(str(file), "rb") as stream:
            for number, found in read_answers(limited_lines(stream), kind):
                if isinstance(found, JudgedAnswer):
                    answers.append(found)
                    continue
                bad.append({"file": name, "line": number, "field": found.field, "message": found.message})
                click.echo(f"{name}: line {number}: {found}", err=True)
    return answers


def _recorded(project: str, feature: str, most: int) -> list[JudgedAnswer]:
    try:
        found = ask(current_addresses().clickhouse, recorded_query(project, feature, most=most))
    except QueryFailed as error:
        fail(str(error))
    return recorded_answers(found.rows)


def _step(found: Calibrated, wrong: Any, weights: Any, above: float) -> dict[str, float]:
    """What a threshold would have done with these answers, each judged by a calibration that never saw it."""
    escalated = weights * (found.doubts > above)
    bad = float((escalated * wrong).sum())
    return {
        "above": round(above, 4),
        "escalated": round(float(escalated.sum() / weights.sum()), 4),
        "wrong_caught": round(bad / float((weights * wrong).sum()), 4),
        "wrong_among_escalated": round(bad / float(escalated.sum()), 4) if escalated.sum() > 0 else 0.0,
    }


def _show(found: Calibrated, count: int, above: float | None, steps: list[dict[str, float]]) -> None:
    out = console()
    out.print(f"{count} answers, {found.wrong:.1%} wrong")
    rows = [
        (name, *(f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]" for each in (e.calibration, e.brier, e.auc)))
        for name, e in (("raw", found.raw), ("calibrated, cross-fitted", found.fitted))
    ]
    out.print(table(("doubt", "calibration error, 95 %", "Brier score", "AUC"), rows))
    less = found.brier_less
    out.print(f"Brier score lower by {less.value:+.3f} [{less.low:+.3f}, {less.high:+.3f}]")
    if found.fitted.auc.low <= 0.5:
        out.print("By these answers the doubt may tell nothing: its AUC may be 0.5.")
    columns = ("above", "escalated", "wrong answers caught", "wrong among the escalated")
    out.print(table(columns, [tuple(step.values()) for step in steps]))
    knots = ", ".join(f"[{at:g}, {share:g}]" for at, share in found.knots)
    out.print(f"calibration: [{knots}]", markup=False)
    if above is not None:
        out.print(f"above: {above:.4g}")


def _as_json(
    found: Calibrated, count: int, above: float | None, steps: list[dict[str, float]], bad: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "answers": count,
        "wrong": found.wrong,
        "raw": asdict(found.raw),
        "calibrated": asdict(found.fitted),
        "brier_less": asdict(found.brier_less),
        "thresholds": steps,
        "calibration": [list(knot) for knot in found.knots],
        "above": above,
        "bad_lines": bad,
    }
