"""How a service tells what it runs: the conformance suite finds every step by this and holds it to the promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flywheel.stream.ports import Fold, Sink


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One step of a service: a service's ``wiring.runner_specs()`` returns one for each.

    Attributes:
        name: unique over all services, e.g. ``bandit-join``.
        topics: what it reads.
        make_step: builds the step; the folder is for whatever it keeps itself (a sink's store).
    """

    name: str
    topics: Sequence[str]
    make_step: Callable[[Path], Fold | Sink]
