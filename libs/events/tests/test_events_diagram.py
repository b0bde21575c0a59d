"""The picture in README is drawn from the declarations, so that it cannot lie."""

from __future__ import annotations

import pytest

from flywheel.events import topics
from flywheel.events.declarations import schemas_dir
from flywheel.events.diagram import BEGIN, END, mermaid, redrawn


def test_every_producer_and_consumer_has_its_arrow() -> None:
    picture = mermaid(topics())
    assert "  router --> llm_decisions" in picture
    assert "  llm_calls --> bandit" in picture
    assert "dlq" not in picture


def test_only_what_stands_between_the_markers_changes() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = redrawn(text, topics())
    assert once.startswith("before\n") and once.endswith("\nafter\n") and "old" not in once
    assert redrawn(once, topics()) == once


def test_without_markers_nothing_is_guessed() -> None:
    with pytest.raises(ValueError, match="to draw between"):
        redrawn("no markers", topics())


def test_the_picture_in_the_readme_is_up_to_date() -> None:
    text = (schemas_dir().parent / "README.md").read_text()
    assert redrawn(text, topics()) == text, "run `make schemas`"
