"""Which budgets a call or a decision falls under, and the keys of their instances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

from flywheel.budget.declared import DIMENSIONS, MAX_VALUE, Budget

Dimensions = Mapping[str, str | None]
_PLAIN: Final = tuple(name for name in DIMENSIONS if name not in ("model", "provider"))


class Instance(NamedTuple):
    """A budget for one choice of values of its ``each`` dimensions; ``key`` is unique over all projects."""

    budget: Budget
    key: str


def dimensions_of_call(call: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the dimensions of an ``llm_call`` event; its model is the one asked for, as that is known beforehand."""
    return _dimensions(call, call["provider"], call["request_model"])


def dimensions_of_decision(decision: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the dimensions of a ``decision`` event, or of anything with its fields; model is ``provider/model``."""
    return _dimensions(decision, None, decision["model"])


def _dimensions(event: Mapping[str, Any], provider: str | None, model: str | None) -> dict[str, str | None]:
    found: dict[str, str | None] = {name: event[name] for name in _PLAIN}
    if model is not None and "/" in model:
        front, _, rest = model.partition("/")
        if provider is None or front == provider:
            provider, model = front, rest
    found["provider"], found["model"] = provider, model
    return found


class Matcher:
    """The budgets of every project, arranged so that a call meets only those it may fall under. Immutable."""

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self._first: dict[tuple[str, str, str], list[Budget]] = {}
        self._unscoped: dict[str, list[Budget]] = {}
        self._dimensions: dict[str, list[str]] = {}
        self.budgets: Mapping[str, Budget] = {b.key: b for b in sorted(budgets, key=lambda b: b.key)}
        self._reserving = frozenset(b.project for b in self.budgets.values() if b.mode == "hard")
        for budget in self.budgets.values():
            if not budget.scope:
                self._unscoped.setdefault(budget.project, []).append(budget)
                continue
            dimension, value = budget.scope[0]
            self._first.setdefault((budget.project, dimension, value), []).append(budget)
            used = self._dimensions.setdefault(budget.project, [])
            if dimension not in used:
                used.append(dimension)

    def declared(self, project: str) -> bool:
        """Whether a project has any budget."""
        return project in self._unscoped or project in self._dimensions

    def reserving(self, project: str) -> bool:
        """Whether calls of a project may have reservations: it has, or had, a hard budget."""
        return project in self._reserving

    def instances(self, project: str, dimensions: Dimensions, at_us: int) -> list[Instance]:
        """Return what a call with these dimensions at that time falls under, ordered by key.

        A call without a value of an ``each`` dimension (or with one of more than 256 characters) falls under no
        instance of that budget. Ended budgets, and those that count from a later time on, are left out.
        """
        found = [b for b in self._unscoped.get(project, ()) if _covers(b, dimensions, at_us)]
        for dimension in self._dimensions.get(project, ()):
            value = dimensions.get(dimension)
            if value is not None:
                candidates = self._first.get((project, dimension, value), ())
                found += [b for b in candidates if _covers(b, dimensions, at_us)]
        return sorted((Instance(b, instance_key(b, dimensions)) for b in found), key=lambda instance: instance.key)


def _covers(budget: Budget, dimensions: Dimensions, at_us: int) -> bool:
    return (
        not budget.ended
        and budget.effective_from_us <= at_us
        and all(dimensions.get(name) == value for name, value in budget.scope)
        and all(0 < len(dimensions.get(name) or "") <= MAX_VALUE for name in budget.each)
    )


def instance_key(budget: Budget, dimensions: Dimensions) -> str:
    """Return ``project/budget[/value…]``; values are percent-encoded, so a slash is always a separator."""
    return "/".join([budget.key, *(quote(dimensions[name] or "", safe="") for name in budget.each)])


def scope_of(budget: Budget, instance: str) -> dict[str, str]:
    """Return every dimension that an instance fixes, with its value."""
    values = instance.split("/")[2:]
    return {**dict(budget.scope), **{n: unquote(v) for n, v in zip(budget.each, values, strict=True)}}


def budget_key_of(instance: str) -> str:
    """Return ``project/budget`` of an instance."""
    return "/".join(instance.split("/")[:2])
