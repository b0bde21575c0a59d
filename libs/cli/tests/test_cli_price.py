"""``flywheel price``: what is printed, what goes to standard error, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flywheel.cli.main import cli
from flywheel.pricing.lines import MOST_LINE_BYTES

GOOD = (
    '{"provider": "gcp.gemini", "model": "gemini-2.5-flash", "time": "2026-11-21T04:10:00Z", "usage": '
    '{"promptTokenCount": 9, "candidatesTokenCount": 1, "thoughtsTokenCount": 21, "totalTokenCount": 31}}\n'
)
UNPRICED = GOOD.replace("gemini-2.5-flash", "in-house")
OWN = "- id: google\n  models:\n    - id: in-house\n      prices: {input_mtok: 1, output_mtok: 10}\n"


def price(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["price", *arguments], prog_name="flywheel", input=stdin)


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    path = tmp_path / "calls.jsonl"
    path.write_text(GOOD + UNPRICED, encoding="utf-8")
    return path


def test_a_file_is_priced_line_by_line_and_summed_up(calls: Path) -> None:
    shown = price(str(calls))
    assert shown.exit_code == 0, shown.output
    assert "0.0000577" in shown.output
    assert "uncached_input=9 visible_output=1 reasoning=21" in shown.output
    assert "50.0%" in shown.output
    assert "unknown_model: 1" in shown.output


def test_json_is_one_line_for_each_and_a_summary(calls: Path) -> None:
    shown = price(str(calls), "--json")
    first, second, last = map(json.loads, shown.stdout.splitlines())
    assert (first["cost_usd"], first["buckets"]["reasoning_tokens"]) == ("0.0000577", 21)
    assert (second["cost_usd"], second["flags"]) == (None, ["unknown_model"])
    assert last["summary"]["unpriced_share"] == 0.5
    assert shown.exit_code == 0


def test_own_prices_win(calls: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(OWN, encoding="utf-8")
    first, second, _ = map(json.loads, price(str(calls), "--json", "--prices", str(own)).stdout.splitlines())
    assert (first["cost_usd"], first["price_source"]) == ("0.0000577", "genai-prices")
    assert (second["cost_usd"], second["price_source"]) == ("0.000229", "own")
    assert second["price_version"].startswith("own/")


def test_bad_lines_are_named_and_skipped_and_the_exit_code_says_so() -> None:
    shown = price("-", "--json", stdin="{\n" + GOOD.replace("2026-11-21T04:10:00Z", "soon") + GOOD)
    bad, worse, good, last = map(json.loads, shown.stdout.splitlines())
    assert bad["error"]["message"].startswith("not JSON")
    assert worse["error"]["field"] == "time"
    assert (good["line"], good["cost_usd"]) == (3, "0.0000577")
    assert last["summary"]["bad_lines"] == 2
    assert "standard input: line 2: time: " in shown.stderr
    assert "2 of 3 lines could not be read" in shown.stderr
    assert shown.exit_code == 1


def test_a_line_without_end_is_refused_and_the_next_one_read() -> None:
    shown = price("-", "--json", stdin='{"a": "' + "x" * (3 * MOST_LINE_BYTES) + '"}\n' + GOOD)
    bad, good, _ = map(json.loads, shown.stdout.splitlines())
    assert "is longer than" in bad["error"]["message"]
    assert good["line"] == 2


def test_many_calls_are_cut_in_the_table_but_all_counted(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text(GOOD * 60, encoding="utf-8")
    shown = price(str(path))
    assert "and 10 more" in shown.output
    assert "0.003462" in shown.output


def test_a_price_file_that_is_wrong_says_where(calls: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(OWN.replace("input_mtok", "inptu_mtok"), encoding="utf-8")
    shown = price(str(calls), "--prices", str(own))
    assert shown.exit_code == 1
    assert "inptu_mtok is no price that is known here" in shown.stderr
    own.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in price(str(calls), "--prices", str(own)).stderr


def test_an_empty_file_is_no_error() -> None:
    shown = price("-", "--json", stdin="")
    assert json.loads(shown.stdout)["summary"]["calls"] == 0
    assert shown.exit_code == 0
    assert price("-", stdin="").exit_code == 0
