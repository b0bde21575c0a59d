"""The window against the obvious model: a list of what was added."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel_recorder.window import Window

batches = st.lists(st.lists(st.integers(-50, 50), max_size=12, unique=True), max_size=30)


@given(batches, st.lists(st.integers(-60, 60), max_size=10))
def test_what_was_added_is_seen_until_it_is_among_the_oldest(added: list[list[int]], asked: list[int]) -> None:
    window, capacity = Window(64), 64
    order: list[int] = []
    for batch in added:
        window.add(np.array(batch, dtype=np.int64))
        order += batch
    assert len(window) <= capacity
    surely = set(order[-(capacity - capacity // 4) :])
    for value, seen in zip(asked, window.seen(np.array(asked, dtype=np.int64)), strict=True):
        assert not (value in surely and not seen)
        assert not (seen and value not in order)


def test_a_window_holds_its_capacity_in_few_arrays() -> None:
    window = Window(8000)
    for start in range(0, 20_000, 100):
        window.add(np.arange(start, start + 100, dtype=np.int64))
    assert 7000 <= len(window) <= 8000
    assert window.seen(np.array([19_999, 13_500, 0], dtype=np.int64)).tolist() == [True, True, False]
    assert len(window._ages) < 20


def test_one_large_batch_is_remembered_at_its_end() -> None:
    window = Window(80)
    window.add(np.arange(1000, dtype=np.int64))
    assert window.seen(np.array([999, 0], dtype=np.int64)).tolist() == [True, False]


def test_a_capacity_too_small_to_forget_in_parts_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        Window(3)
