"""``flywheel route-bench``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import click

from flywheel.cli.file_lines import called, limited_lines
from flywheel.cli.output import console, fail, json_option, print_json, table
from flywheel.routing.bootstrap import Interval
from flywheel.routing.compare import Comparison, Mode, Options, Row, compare
from flywheel.routing.features import ReadTexts
from flywheel.routing.metrics import Frontier
from flywheel.routing.plot import frontier_svg
from flywheel.routing.queries import (
    Collector,
    LineInvalid,
    Query,
    RoutingSet,
    correctness_rows,
    json_lines,
    with_flat_costs,
)
from flywheel.routing.swap import Recovery, recover

MOST_SEEDS: Final = 100
_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)


@click.command("route-bench")
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option(
    "--routellm", is_flag=True, help="FILES are RouteLLM's correctness tables (CSV); a file's name is the group."
)
@click.option(
    "--online/--offline", "live", default=False, help="Labels come one by one, or cross-fitting (the default)."
)
@click.option(
    "--labels", type=click.IntRange(25), help="Label budget: labelled queries (default: all other folds; half)."
)
@click.option("--folds", type=click.IntRange(2, 50), default=5, show_default=True, help="Folds, offline.")
@click.option("--seeds", type=click.IntRange(1, MOST_SEEDS), default=3, show_default=True, help="Orders to try.")
@click.option(
    "--draws", type=click.IntRange(100, 10_000), default=500, show_default=True, help="Draws of the bootstrap."
)
@click.option("--one-model", is_flag=True, help="Online, also learn from the label of the asked model alone.")
@click.option("--swap", is_flag=True, help="Online, also let the models change places in the middle of the labels.")
@click.option("--strong", help="The model whose share of calls counts (default: the dearer one, else the better one).")
@click.option(
    "--cost", "costs", multiple=True, metavar="MODEL=USD", help="What a query costs where lines do not say; repeat."
)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write the frontiers to this SVG file.")
@json_option
def route_bench(
    *,
    files: tuple[Path, ...],
    routellm: bool,
    live: bool,
    labels: int | None,
    folds: int,
    seeds: int,
    draws: int,
    one_model: bool,
    swap: bool,
    strong: str | None,
    costs: tuple[str, ...],
    plot: Path | None,
    as_json: bool,
) -> None:
    """Compare routers on the queries in FILES (JSONL; - is standard input), every one by labels of other queries.

    A line is {"query": "...", "group": "...", "scores": {"model": 0..1, ...}, "cost_usd": {"model": 0.001, ...}};
    group and
    cost_usd may be left out. Between two models the figure is APGR, between more the share of the gap from the best
    single
    model to the oracle that is closed. A label is the score of every model on a query. Lines that cannot be read are
    named
    and skipped; then the exit code is 1.
    """
    bad: list[dict[str, Any]] = []
    data = _collected(files, routellm, costs, bad)
    mode: Mode = "online" if live else "offline"
    options = Options(mode, labels, folds, seeds, draws, one_model, strong)
    if swap and not live:
        raise click.UsageError("--swap needs --online")
    try:
        found = compare(data, options, lambda step: click.echo(f"  {step}", err=True))
    except ValueError as error:
        fail(str(error))
    recovery: tuple[Recovery, ...] = ()
    if swap:
        recovery = recover(ReadTexts.of(data.texts, data.groups), data.scores, labels=found.budget or len(data) // 2)
    if plot is not None:
        _write_plot(found, data, plot)
    if as_json:
        print_json(_as_json(found, recovery, options, bad))
    else:
        _show(found, recovery)
    if bad:
        fail(f"{len(bad)} of {len(bad) + len(data)} lines could not be used")


def _collected(
    files: tuple[Path, ...], routellm: bool, costs: tuple[str, ...], bad: list[dict[str, Any]]
) -> RoutingSet:
    collector = Collector()
    for file in files:
        name = called(file)
        for number, found in _read(file, routellm):
            wrong = found if isinstance(found, LineInvalid) else collector.add(found)
            if wrong is not None:
                bad.append({"file": name, "line": number, "field": wrong.field, "message": wrong.message})
                click.echo(f"{name}: line {number}: {wrong}", err=True)
    try:
        data = collector.finish()
        return with_flat_costs(data, dict(map(_cost, costs))) if costs else data
    except ValueError as error:
        fail(str(error))


def _read(file: Path, routellm: bool) -> Iterator[tuple[int, Query | LineInvalid]]:
    with click.open_file(str(file), "rb") as stream:
        if routellm:
            group = file.stem.removeprefix("mmlu_").removesuffix("_responses")
            yield from correctness_rows(_texts(stream), group)
        else:
            yield from json_lines(limited_lines(stream))


def _texts(stream: IO[bytes]) -> Iterator[str]:
    for line in limited_lines(stream):
        yield line.decode("utf-8", errors="replace")


def _cost(text: str) -> tuple[str, float]:
    model, separator, usd = text.rpartition("=")
    try:
        return model if separator else text, float(usd)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not MODEL=USD", param_hint="--cost") from None


def _write_plot(found: Comparison, data: RoutingSet, plot: Path) -> None:
    label = "mean cost of a query, USD" if data.costs is not None else f"share of calls to {found.strong}"
    try:
        plot.write_text(frontier_svg(found, title=f"{len(data)} queries", cost_label=label), encoding="utf-8")
    except (OSError, ValueError) as error:
        fail(f"no plot: {error}")


def _show(found: Comparison, recovery: tuple[Recovery, ...]) -> None:
    out = console()
    two = found.figure == "apgr"
    figure = "APGR" if two else "gap closed"
    labels = "all labels of the other folds" if found.budget is None else f"{found.budget} labels"
    means = ", ".join(f"{model} {mean:.3f}" for model, mean in zip(found.models, found.means, strict=True))
    out.print(f"{found.queries} queries, {labels}; mean scores: {means}")
    columns: tuple[str, ...] = (
        "router",
        figure,
        "95 %",
        f"{found.ours} is higher by",
        "quality",
        "AIQ",
        "AIQ (repository)",
    )
    columns += ("APGR in bins", "CPT 50 %", "CPT 80 %") if two else ()
    out.print(table(columns, [_cells(row, two) for row in found.rows]))
    if found.zero is not None:
        out.print(f"Zero router: {_corners(found.zero)}")
    if found.learning:
        out.print(f"{figure} as labels arrive: " + ", ".join(f"{n}: {value:.3f}" for n, value in found.learning))
        out.print(f"times it believed the models had changed, over all seeds: {found.resets}")
    if recovery:
        columns = ("models change places in the middle", "before", "150 after", "later", "forgot at label")
        rows = [
            (r.name, _known(r.before), _known(r.first), _known(r.later), " ".join(map(str, r.resets)) or None)
            for r in recovery
        ]
        out.print(table(columns, rows))


def _cells(row: Row, two: bool) -> tuple[Any, ...]:
    less = row.ours_less
    higher = None if less is None else f"{less.value:+.3f} [{less.low:+.3f}, {less.high:+.3f}]"
    cells = (
        row.name,
        _known(row.figure.value),
        f"{row.figure.low:.3f} – {row.figure.high:.3f}",
        higher,
        _known(row.quality),
        _known(row.aiq),
        _known(row.aiq_repository),
    )
    return (*cells, _known(row.apgr_in_bins), _known(row.cpt50), _known(row.cpt80)) if two else cells


def _known(value: float) -> float | None:
    """A figure for a table or JSON, to four places; ``None`` for one that does not apply."""
    return None if math.isnan(value) else round(value, 4)


def _corners(front: Frontier) -> str:
    points = zip(front.cost.tolist(), front.quality.tolist(), strict=True)
    return ", ".join(f"{quality:.3f} at {cost:.4g}" for cost, quality in points)


def _as_json(
    found: Comparison, recovery: tuple[Recovery, ...], options: Options, bad: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "figure": found.figure,
        "mode": options.mode,
        "queries": found.queries,
        "labels": found.budget,
        "folds": options.folds if options.mode == "offline" else None,
        "seeds": options.seeds,
        "models": dict(zip(found.models, found.means, strict=True)),
        "strong": found.strong,
        "ours": found.ours,
        "rows": [_row_as_json(row) for row in found.rows],
        "zero_router": _frontier_as_json(found.zero),
        "learning": [{"labels": n, "value": _known(value)} for n, value in found.learning],
        "resets": found.resets,
        "swap": [
            {
                "name": r.name,
                "before": _known(r.before),
                "first_150": _known(r.first),
                "later": _known(r.later),
                "forgot_at": list(r.resets),
            }
            for r in recovery
        ],
        "bad_lines": bad,
    }


def _row_as_json(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "value": _interval_as_json(row.figure),
        "ours_higher_by": _interval_as_json(row.ours_less),
        "quality": _known(row.quality),
        "apgr_in_bins": _known(row.apgr_in_bins),
        "cpt50": _known(row.cpt50),
        "cpt80": _known(row.cpt80),
        "aiq": _known(row.aiq),
        "aiq_repository": _known(row.aiq_repository),
        "frontier": _frontier_as_json(row.frontier),
    }


def _interval_as_json(found: Interval | None) -> dict[str, float | None] | None:
    return (
        None if found is None else {"mean": _known(found.value), "low": _known(found.low), "high": _known(found.high)}
    )


def _frontier_as_json(front: Frontier | None) -> list[dict[str, float]] | None:
    if front is None:
        return None
    return [{"cost": x, "quality": y} for x, y in zip(front.cost.tolist(), front.quality.tolist(), strict=True)]
