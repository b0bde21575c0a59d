"""``flywheel detect``."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import click

from flywheel.cli.file_lines import called, limited_lines
from flywheel.cli.output import console, fail, json_option, print_json_line, table
from flywheel.detect import Alarm, Scored, SeriesDetector
from flywheel.detect.picture import picture
from flywheel.detect.recorded_rows import EPOCH, Columns, ColumnsInvalid, Row, RowInvalid, columns_of, rows_of

MOST_SERIES: Final = 5_000
MOST_PLOTTED: Final = 12
MOST_SHOWN: Final = 60
PROGRESS_ROWS: Final = 20_000


class Judging:
    """The series of a file, each with a detector of its own, and what was counted on the way."""

    def __init__(self, *, keep: bool) -> None:
        self.detectors: dict[tuple[str, ...], SeriesDetector] = {}
        self.latest: dict[tuple[str, ...], int] = {}
        self.kept: dict[tuple[str, ...], list[Scored]] | None = {} if keep else None
        self.counts: Counter[str] = Counter(rows=0, missing=0, late=0, bad=0)
        self.alarms: Counter[str] = Counter(anomaly=0, level_change=0, drift=0, silence=0)

    def judge(self, row: Row) -> Scored | None:
        """The verdict on a row; None for a row without a value. Raises ``RowInvalid`` for a series too many."""
        detector = self.detectors.get(row.dimensions)
        if detector is None:
            if len(self.detectors) == MOST_SERIES:
                raise RowInvalid("", f"a series more than the {MOST_SERIES} that are followed")
            detector = self.detectors[row.dimensions] = SeriesDetector(salt="/".join(row.dimensions))
        self.counts["rows"] += 1
        if row.value is None:
            self.counts["missing"] += 1
            return None
        self.counts["late"] += row.at_us < self.latest.get(row.dimensions, row.at_us)
        self.latest[row.dimensions] = max(row.at_us, self.latest.get(row.dimensions, row.at_us))
        found = detector.update(row.at_us, row.value)
        self.alarms.update(alarm.kind for alarm in found.alarms)
        if self.kept is not None and (row.dimensions in self.kept or len(self.kept) < MOST_PLOTTED):
            self.kept.setdefault(row.dimensions, []).append(found)
        return found

    def summary(self) -> dict[str, Any]:
        """What was read and said."""
        return dict(self.counts) | {"series": len(self.detectors), "alarms": dict(self.alarms)}


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--time", "time_column", metavar="COLUMN", help="The column of times (else timestamp, time, …; else the first)."
)
@click.option("--value", "value_column", metavar="COLUMN", help="The column of values (else value, …; else the next).")
@click.option(
    "--by", multiple=True, metavar="COLUMN", help="A dimension: each combination is a series of its own. Repeatable."
)
@click.option("--alarms", "only_alarms", is_flag=True, help="With --json: only rows with an alarm.")
@click.option(
    "--scores", type=click.Path(dir_okay=False, path_type=Path), help="Write timestamp,value,anomaly_score here (CSV)."
)
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw values, scores and alarms here (SVG)."
)
@json_option
def detect(  # noqa: PLR0917
    file: Path,
    time_column: str | None,
    value_column: str | None,
    by: tuple[str, ...],
    only_alarms: bool,
    scores: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Score every row of FILE (CSV with a header; - is standard input) and alarm on what is out of the ordinary.

    No row is judged by what comes after it, and there is nothing to tune. Kinds of alarm: anomaly (a score of 0.5 or
    more), level_change, drift (the spread changed), silence (nothing came for long). Times are ISO 8601 (UTC where no
    zone is named) or numbers since the epoch.

    With --json each row is an object in a line of its own: line, timestamp, series, value, expected, score (0 to 1),
    surprise (the score's -log10 of a tail probability, not suppressed), alarms; each alarm has kind, since, expected,
    observed, statistic, threshold and method. A row without a value has score null, one that cannot be read has error.
    The last line is {"summary": …}. Lines that cannot be read are skipped; then the exit code is 1.
    """
    judging = Judging(keep=plot is not None)
    shown: list[tuple[Row, Alarm]] = []
    with ExitStack() as stack:
        lines = limited_lines(stack.enter_context(click.open_file(str(file), "rb")))
        columns = _columns(file, lines, time_column, value_column, by)
        writer = csv.writer(stack.enter_context(scores.open("w", newline=""))) if scores else None
        if writer:
            writer.writerow(["timestamp", "value", "anomaly_score"])
        for number, found in rows_of(lines, columns):
            try:
                row = _valid(found)
                judged = judging.judge(row)
            except RowInvalid as error:
                judging.counts["bad"] += 1
                click.echo(f"{called(file)}: line {number}: {error}", err=True)
                if as_json and not only_alarms:
                    print_json_line({"line": number, "error": {"field": error.field, "message": error.message}})
                continue
            if as_json and (not only_alarms or (judged and judged.alarms)):
                print_json_line(_as_json(row, judged))
            if writer and judged:
                writer.writerow([row.timestamp, row.value, repr(judged.score)])
            shown.extend((row, alarm) for alarm in (judged.alarms if judged else ()))
            del shown[:-MOST_SHOWN]
            _progress(judging.counts["rows"])
    if plot and judging.kept is not None:
        plot.write_text(picture([("/".join(key) or file.name, rows) for key, rows in judging.kept.items()]))
    _end(judging, shown, as_json=as_json)


def _columns(file: Path, lines: Iterator[bytes], time: str | None, value: str | None, by: tuple[str, ...]) -> Columns:
    header = next(lines, b"")
    try:
        return columns_of(header.decode("utf-8", "replace"), time=time, value=value, by=by)
    except ColumnsInvalid as error:
        fail(f"{called(file)}: {error}")


def _valid(found: Row | RowInvalid) -> Row:
    if isinstance(found, RowInvalid):
        raise found
    return found


def _as_json(row: Row, judged: Scored | None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "line": row.line,
        "timestamp": row.timestamp,
        "series": list(row.dimensions),
        "value": row.value,
    }
    if judged is None:
        return made | {"expected": None, "score": None, "surprise": None, "alarms": []}
    return made | {
        "expected": judged.expected,
        "score": judged.score,
        "surprise": judged.surprise,
        "alarms": [_alarm_as_json(alarm) for alarm in judged.alarms],
    }


def _alarm_as_json(alarm: Alarm) -> dict[str, Any]:
    return {
        "kind": alarm.kind,
        "since": clock(alarm.since_us),
        "expected": alarm.expected,
        "observed": alarm.observed,
        "statistic": alarm.statistic,
        "threshold": alarm.threshold,
        "method": alarm.method,
    }


def _progress(rows: int) -> None:
    if rows % PROGRESS_ROWS == 0 and sys.stderr.isatty():
        click.echo(f"{rows} rows", err=True)


def _end(judging: Judging, shown: list[tuple[Row, Alarm]], *, as_json: bool) -> None:
    summary = judging.summary()
    if as_json:
        print_json_line({"summary": summary})
    else:
        rows = [
            ("/".join(row.dimensions) or None, row.timestamp, row.line, alarm.kind.replace("_", " "), *_evidence(alarm))
            for row, alarm in shown
        ]
        columns = ("series", "time", "line", "kind", "since", "expected", "observed", "statistic", "threshold")
        if rows:
            console().print(table(columns, rows))
        total = sum(judging.alarms.values())
        if total > len(rows):
            console().print(f"the last {len(rows)} of {total} alarms (--json has all)")
        said = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in judging.alarms.items())
        console().print(
            f"{summary['rows']} rows in {summary['series']} series, {summary['missing']} without a value: {said}"
        )
    if summary["bad"]:
        fail(f"{summary['bad']} of {summary['bad'] + summary['rows']} lines could not be read")


def _evidence(alarm: Alarm) -> tuple[str, ...]:
    figures = (alarm.expected, alarm.observed, alarm.statistic, alarm.threshold)
    return clock(alarm.since_us), *(f"{figure:.5g}" for figure in figures)


def clock(at_us: int) -> str:
    """A time as ISO 8601 in UTC; of times that a calendar has no word for, the microseconds."""
    try:
        return (EPOCH + timedelta(microseconds=at_us)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return str(at_us)
