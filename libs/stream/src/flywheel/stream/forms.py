"""Which form the state of a stage has: one that another version of the code wrote is refused, not misread."""

from __future__ import annotations

from flywheel.stream.errors import Fatal
from flywheel.stream.ports import StateView

_PLACE = ("form", "form")


def check_form(state: StateView, form: int, *, stage: str, shard: int) -> None:
    """Note the form in a state that is new.

    Raises:
        Fatal: it has another one.
    """
    stored = state.get(*_PLACE)
    if stored is None:
        state.put(*_PLACE, str(form).encode())
    elif int(stored) != form:
        raise Fatal(
            f"{stage}: shard {shard} has a state of form {int(stored)}, this version reads {form}: move the state's "
            "folder aside, it is rebuilt from the log"
        )
