"""What was recorded of each query: its text, its group, what every model would have scored on it and cost.

Two forms are read: JSON lines (``{"query": …, "group": …, "scores": {model: 0..1}, "cost_usd": {model: …}}``) and
RouteLLM's correctness tables (CSV: ``prompt`` and a column of True or False for each model).
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MOST_QUERY_CHARS: Final = 1_000_000
MOST_MODELS: Final = 64
MOST_COST_USD: Final = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Query:
    """One recorded query; ``cost_usd`` is ``None`` where the recording has no costs."""

    text: str
    group: str | None
    scores: Mapping[str, float]
    cost_usd: Mapping[str, float] | None


@dataclass(frozen=True, slots=True)
class LineInvalid:
    """A line that cannot be used: the field at fault, and what is wrong with it."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


@dataclass(frozen=True, slots=True)
class RoutingSet:
    """Queries as tables: scores and costs (queries, models); costs are ``None`` where none are known."""

    texts: tuple[str, ...]
    groups: tuple[str | None, ...]
    models: tuple[str, ...]
    scores: Floats
    costs: Floats | None

    def __len__(self) -> int:
        return len(self.texts)


def json_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, Query | LineInvalid]]:
    """Each line that is not blank, by its number; what is wrong with a line is its own affair alone."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, _parsed(line)


def _parsed(line: bytes) -> Query | LineInvalid:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return LineInvalid("line", "is not JSON in UTF-8")
    if not isinstance(found, dict):
        return LineInvalid("line", "is not a JSON object")
    text, group = found.get("query"), found.get("group")
    if not isinstance(text, str) or len(text) > MOST_QUERY_CHARS:
        return LineInvalid("query", f"must be a text of at most {MOST_QUERY_CHARS:,} characters")
    if group is not None and not isinstance(group, str):
        return LineInvalid("group", "must be a text")
    scores = _numbers(found.get("scores"), "scores", 1.0)
    if isinstance(scores, LineInvalid):
        return scores
    if found.get("cost_usd") is None:
        return Query(text, group, scores, None)
    costs = _numbers(found["cost_usd"], "cost_usd", MOST_COST_USD)
    if isinstance(costs, LineInvalid):
        return costs
    if costs.keys() != scores.keys():
        return LineInvalid("cost_usd", "must name the models that scores names")
    return Query(text, group, scores, costs)


def _numbers(found: Any, field: str, most: float) -> Mapping[str, float] | LineInvalid:
    if not isinstance(found, dict) or not 2 <= len(found) <= MOST_MODELS:
        return LineInvalid(field, f"must be an object of 2 to {MOST_MODELS} models")
    for model, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            return LineInvalid(f"{field}.{model}", f"must be a number from 0 to {most:g}")
    return {model: float(value) for model, value in found.items()}


def correctness_rows(lines: Iterable[str], group: str | None) -> Iterator[tuple[int, Query | LineInvalid]]:
    """Rows of a RouteLLM table, by the number of the line each ends on.

    Model columns are those whose first row says True or False; others (the answers' texts) are left out.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.DictReader(lines)
    models: list[str] | None = None
    try:
        if "prompt" not in (reader.fieldnames or ()):
            yield 1, LineInvalid("prompt", "there is no such column")
            return
        for row in reader:
            if models is None:
                models = [name for name, value in row.items() if name is not None and value in _VERDICTS]
            yield reader.line_num, _row(row, models, group)
    except csv.Error as error:
        yield reader.line_num, LineInvalid("line", f"is not CSV: {error}")


_VERDICTS: Final = {"True": 1.0, "False": 0.0}


def _row(row: Mapping[str, str | None], models: Sequence[str], group: str | None) -> Query | LineInvalid:
    text = row["prompt"]
    if text is None or len(text) > MOST_QUERY_CHARS:
        return LineInvalid("prompt", f"must be a text of at most {MOST_QUERY_CHARS:,} characters")
    if not 2 <= len(models) <= MOST_MODELS:
        return LineInvalid("line", f"needs 2 to {MOST_MODELS} columns of True or False")
    scores = {}
    for model in models:
        verdict = _VERDICTS.get(row[model] or "")
        if verdict is None:
            return LineInvalid(model, "is neither True nor False")
        scores[model] = verdict
    return Query(text, group, scores, None)


class Collector:
    """Gathers queries into a set; the first one says which models there are, and whether costs are known."""

    def __init__(self) -> None:
        self._queries: list[Query] = []

    def add(self, query: Query) -> LineInvalid | None:
        """Keep a query, or say why it does not fit to those before it."""
        if self._queries:
            first = self._queries[0]
            if query.scores.keys() != first.scores.keys():
                return LineInvalid(
                    "scores", f"must name the models of the first line: {', '.join(sorted(first.scores))}"
                )
            if (query.cost_usd is None) != (first.cost_usd is None):
                return LineInvalid("cost_usd", "must be on every line or on none")
        self._queries.append(query)
        return None

    def finish(self) -> RoutingSet:
        """What was gathered.

        Raises:
            ValueError: nothing was.
        """
        if not self._queries:
            raise ValueError("no line could be used")
        models = tuple(sorted(self._queries[0].scores))
        costs = None
        if self._queries[0].cost_usd is not None:
            costs = np.array([[(q.cost_usd or {})[m] for m in models] for q in self._queries])
        return RoutingSet(
            tuple(q.text for q in self._queries),
            tuple(q.group for q in self._queries),
            models,
            np.array([[q.scores[m] for m in models] for q in self._queries]),
            costs,
        )


def with_flat_costs(found: RoutingSet, usd_per_query: Mapping[str, float]) -> RoutingSet:
    """The set with each model's cost the same for every query.

    Raises:
        ValueError: a model has no cost, a cost has no model, or it is no amount.
    """
    if set(usd_per_query) != set(found.models):
        raise ValueError(f"a cost is needed for each of {', '.join(found.models)}, and for no other")
    if not all(math.isfinite(usd) and 0 <= usd <= MOST_COST_USD for usd in usd_per_query.values()):
        raise ValueError(f"a cost must be from 0 to {MOST_COST_USD:,.0f} USD")
    row = np.array([usd_per_query[model] for model in found.models])
    return RoutingSet(found.texts, found.groups, found.models, found.scores, np.tile(row, (len(found), 1)))
