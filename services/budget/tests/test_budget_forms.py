"""A state that another version of the code wrote is refused, not misread."""

from __future__ import annotations

import pytest

from flywheel.budget import Matcher
from flywheel.stream import Fatal
from flywheel_budget.core import GuardFold, SpendFold

FOLDS = {"budget-spend": SpendFold(lambda: Matcher([])), "budget-guard": GuardFold()}


@pytest.mark.parametrize("stage", FOLDS)
def test_a_state_of_another_form_ends_the_service_with_what_to_do(facts, stage):
    state = facts.State()
    FOLDS[stage].fold(3, [], state)
    FOLDS[stage].fold(3, [], state)  # its own form
    state.put("form", "form", b"99")
    with pytest.raises(Fatal, match=f"{stage}: shard 3 has a state of form 99.*move the state's folder aside"):
        FOLDS[stage].fold(3, [], state)
