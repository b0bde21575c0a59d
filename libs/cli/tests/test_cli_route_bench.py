"""``flywheel route-bench`` on a user's own file: bad lines named and skipped, table, JSON and plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result

from flywheel.cli.main import cli


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["route-bench", *arguments, "--draws", "100"], prog_name="flywheel")


def lines(count: int) -> list[dict[str, Any]]:
    """Sums that need the big model, and greetings that do not."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        hard = bool(rng.random() < 0.5)
        text = f"what is {number} plus {number + 3}" if hard else f"say hello to friend number {number}"
        scores = {"big": float(rng.random() < 0.9), "small": float(rng.random() < (0.2 if hard else 0.85))}
        found.append({"query": text, "group": "any", "scores": scores, "cost_usd": {"big": 0.01, "small": 0.001}})
    return found


def write(folder: Path, *rows: Any) -> str:
    file = folder / "queries.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(file)


def test_bad_lines_are_named_and_cost_the_others_nothing(tmp_path: Path) -> None:
    good = lines(120)
    first = good[0]
    bad = [
        "{not json",
        "[]",
        {**first, "query": 5},
        {**first, "group": []},
        {**first, "scores": {"big": 1}},
        {**first, "scores": {"big": 1.5, "small": 0}},
        {**first, "scores": {"big": float("nan"), "small": 0}},
        {**first, "scores": {"big": True, "small": 0}},
        {**first, "cost_usd": {"big": 1}},
        {**first, "cost_usd": None},
        {**first, "scores": {"big": 1, "other": 0}, "cost_usd": {"big": 1, "other": 0}},
    ]
    plot = tmp_path / "frontier.svg"
    result = bench(write(tmp_path, *good, *bad), "--folds", "2", "--seeds", "1", "--json", "--plot", str(plot))
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert [line["field"] for line in found["bad_lines"]] == [
        *("line", "line", "query", "group", "scores", "scores.big", "scores.big", "scores.big"),
        *("cost_usd", "cost_usd", "scores"),
    ]
    assert found["queries"] == 120
    assert found["bad_lines"][0]["line"] == 121
    assert "queries.jsonl: line 121: line: is not JSON in UTF-8" in result.stderr
    assert "11 of 131 lines could not be used" in result.stderr
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["ours, offline"]["value"]["mean"] > 0.6
    assert rows["best single"]["value"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert rows["oracle"]["value"]["mean"] > rows["ours, offline"]["value"]["mean"]
    assert found["zero_router"][0]["cost"] == pytest.approx(0.001)
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")


def test_routellms_tables_online_as_a_table(tmp_path: Path) -> None:
    for group in ("sums", "greetings"):
        rows = [line for line in lines(160) if ("plus" in line["query"]) == (group == "sums")]
        body = [f'"{r["query"]}",{bool(r["scores"]["small"])},{bool(r["scores"]["big"])},said' for r in rows]
        (tmp_path / f"mmlu_{group}.csv").write_text(
            "\n".join(["prompt,small,big,small_response", *body, '"x",True,maybe,'])
        )
    files = sorted(map(str, tmp_path.glob("*.csv")))
    result = bench(*files, "--routellm", "--online", "--labels", "80", "--seeds", "1", "--one-model", "--swap")
    assert result.exit_code == 1
    assert "big: is neither True nor False" in result.stderr
    assert "2 of 162 lines could not be used" in result.stderr
    for said in (
        "APGR",
        "subject mean",
        "ours, online",
        "one model's label",
        "as labels arrive: 50: ",
        "change places",
    ):
        assert said in result.stdout


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    file = write(tmp_path, *lines(60))
    assert "fewer than 50 queries" in bench(write(tmp_path, *lines(20))).stderr
    file = write(tmp_path, *lines(60))
    assert "no model 'huge'; there are big, small" in bench(file, "--strong", "huge").stderr
    assert "small scores no better on the whole" in bench(file, "--strong", "small").stderr
    assert "is not MODEL=USD" in bench(file, "--cost", "big").stderr
    assert "a cost is needed for each of big, small" in bench(file, "--cost", "big=1").stderr
    assert "can be the label budget of a stream" in bench(file, "--online", "--labels", "50").stderr
    assert "--swap needs --online" in bench(file, "--swap").stderr
    assert "no line could be used" in bench(write(tmp_path, "x")).stderr
