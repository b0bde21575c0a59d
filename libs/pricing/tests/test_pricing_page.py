"""README.md says what the code does: its conventions, its flags, its example."""

from __future__ import annotations

import re
from pathlib import Path

from flywheel.pricing import EMITTERS, PriceBook, normalise, price_call, split_usage
from flywheel.pricing.own import read_own_prices

FOLDER = Path(__file__).resolve().parents[1]
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_table_of_conventions_is_that_of_the_code() -> None:
    section = PAGE.split("## Conventions")[1].split("## ")[0]
    rows = [row.split("|") for row in section.splitlines() if row.startswith("| `")]
    told = {name: (row[3], row[4]) for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    assert told.keys() == EMITTERS.keys()
    for name, emitter in EMITTERS.items():
        cached, reasoning = told[name]
        expected = {"INCLUSIVE": "inside", "EXCLUSIVE": "beside", "UNKNOWN": "not known"}[emitter.cached]
        assert expected in cached or name == "flywheel"
        if emitter.reasoning_beside:
            assert "beside" in reasoning


def test_every_flag_that_a_docstring_explains_is_on_the_page() -> None:
    told = "".join(each.__doc__ or "" for each in (normalise, split_usage, PriceBook.price, price_call))
    code = "".join(path.read_text(encoding="utf-8") for path in (FOLDER / "src/flywheel/pricing").glob("*.py"))
    flags = {name for name in re.findall(r"``([a-z]+_[a-z_]+)``", told) if f'"{name}"' in code and "tokens" not in name}
    assert len(flags) > 15
    assert {flag for flag in flags - {"split_usage"} if f"`{flag}`" not in PAGE} == set()


def test_the_price_file_of_the_page_is_one() -> None:
    example = PAGE.split("```yaml")[1].split("```")[0]
    table = read_own_prices(example)
    assert table.card("vllm", "qwen3-8b", 0) is not None
    assert table.card("openai", "gpt-4o", 0) is None  # its price starts later
