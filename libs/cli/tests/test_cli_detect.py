"""``flywheel detect``: every row scored by what came before it; bad lines named and skipped."""

import csv
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from flywheel.cli.main import cli


def detect(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["detect", *arguments], prog_name="flywheel", input=stdin)


def read(result: Result) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    *rows, last = [json.loads(line) for line in result.stdout.splitlines()]
    return rows, last["summary"]


def series(count: int, *, seed: int = 1) -> list[str]:
    rng, start = random.Random(seed), datetime(2026, 3, 1, tzinfo=UTC)
    return [f"{start + timedelta(minutes=place):%Y-%m-%d %H:%M:%S},{rng.gauss(10, 1):.3f}" for place in range(count)]


def write(folder: Path, *lines: str, header: str = "timestamp,value") -> str:
    file = folder / "series.csv"
    file.write_text("\n".join([header, *lines]) + "\n")
    return str(file)


def test_rows_are_scored_and_a_shift_is_told_with_its_evidence(tmp_path: Path) -> None:
    lines = series(800)
    lines[600:] = [f"{line.split(',')[0]},{float(line.split(',')[1]) + 4}" for line in lines[600:]]
    drawn, scored = tmp_path / "series.svg", tmp_path / "scores.csv"
    file = write(tmp_path, *lines)
    result = detect(file, "--json", "--plot", str(drawn), "--scores", str(scored))
    assert result.exit_code == 0, result.output
    rows, summary = read(result)
    assert [row["line"] for row in rows] == list(range(2, 802))
    assert all(0 <= row["score"] < 1 for row in rows)
    told = [(row["line"], alarm) for row in rows for alarm in row["alarms"] if alarm["kind"] == "level_change"]
    assert len(told) == summary["alarms"]["level_change"] == 1
    line, alarm = told[0]
    assert 602 <= line < 615
    assert 9.5 < alarm["expected"] < 10.5
    assert 11.5 < alarm["observed"] < 15.5  # of 13 to 15 observations, a few of them from before the shift
    assert alarm["statistic"] >= alarm["threshold"]
    assert "level change" in drawn.read_text() and drawn.read_text().endswith("</svg>\n")
    with scored.open(newline="") as handle:
        written = list(csv.DictReader(handle))
    assert [float(row["anomaly_score"]) for row in written] == [row["score"] for row in rows]
    shown = detect(file)
    assert "level change" in shown.stdout and "800 rows in 1 series" in shown.stdout


def test_bad_lines_are_named_and_cost_nobody_else_anything(tmp_path: Path) -> None:
    good = series(40)
    bad = ["yesterday,1", "2026-03-01 00:40:00,many", "2026-03-01 00:41:00", '2026-03-01 00:42:00,"3', "1e400,2", ",5"]
    result = detect(write(tmp_path, *good[:20], *bad, "", "2026-03-01 00:43:00,nan", *good[20:]), "--json")
    assert result.exit_code == 1
    rows, summary = read(result)
    named = {row["line"]: row["error"]["field"] for row in rows if "error" in row}
    assert named == {22: "timestamp", 23: "value", 24: "", 25: "", 26: "timestamp", 27: "timestamp"}
    assert "line 23: value: not a number" in result.stderr
    assert [row["score"] for row in rows if row["line"] == 29] == [None]
    kept = [row for row in rows if row.get("score") is not None]
    alone, _ = read(detect(write(tmp_path, *good), "--json"))
    assert [row["score"] for row in kept] == [row["score"] for row in alone]
    assert summary | {"alarms": None} == {
        "rows": 41, "missing": 1, "late": 0, "bad": 6, "series": 1, "alarms": None
    }  # fmt: skip


def test_each_combination_of_dimensions_is_a_series(tmp_path: Path) -> None:
    ours, theirs = series(300, seed=2), series(300, seed=3)
    mixed = [line for pair in zip(ours, theirs, strict=True) for line in (f"{pair[0]},eu,a", f"{pair[1]},us,b")]
    file = write(tmp_path, *mixed, header="when,price,region,arm")
    rows, summary = read(detect(file, "--time", "when", "--value", "price", "--by", "region", "--by", "arm", "--json"))
    assert summary["series"] == 2
    alone, _ = read(detect(write(tmp_path, *ours), "--json"))
    assert [row["score"] for row in rows if row["series"] == ["eu", "a"]] == [row["score"] for row in alone]


def test_late_double_and_tiny_files_are_taken_as_they_come(tmp_path: Path) -> None:
    lines = series(30)
    rows, summary = read(detect(write(tmp_path, *lines[:20], lines[3], lines[3], *lines[20:]), "--json"))
    assert len(rows) == 32 and summary["late"] == 2
    for few in ([], lines[:1]):
        result = detect(write(tmp_path, *few), "--json")
        assert result.exit_code == 0 and read(result)[1]["rows"] == len(few)
    assert detect(write(tmp_path, *lines, header="timestamp")).exit_code == 1
    assert "no column price" in detect(write(tmp_path, *lines), "--value", "price").stderr
    epoch = [f"{1_700_000_000_000 + 1000 * place};{place % 5}" for place in range(30)]
    rows, _ = read(detect("-", "--json", stdin="\n".join(["ts;count", *epoch])))
    assert rows[0]["expected"] == 0.0 and rows[29]["line"] == 31


def test_only_alarms_and_silence(tmp_path: Path) -> None:
    lines = series(200)
    rows, summary = read(detect(write(tmp_path, *lines[:100], *lines[150:]), "--json", "--alarms"))
    silences = [alarm for row in rows for alarm in row["alarms"] if alarm["kind"] == "silence"]
    assert [alarm["observed"] for alarm in silences] == [51 * 60.0]
    assert silences[0]["expected"] == 60.0
    assert all(row["alarms"] for row in rows) and summary["rows"] == 150
