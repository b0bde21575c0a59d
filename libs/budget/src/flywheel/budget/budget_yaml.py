"""Budgets as a user writes them: YAML to ``Budget``, every problem with its line and field.

Imported where text is read only: it needs ``flywheel.policy``, which services that hold budgets do without.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from flywheel.budget.declared import WARN_AT, Budget, BudgetInvalid, Mode, Per, check
from flywheel.budget.money import to_pico
from flywheel.policy.strict_yaml import Problem, YamlInvalid, problems_of, read_yaml

MAX_BUDGETS: Final = 1000
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"^(\d{1,9})\s*([smhd])$")


class BudgetsInvalid(YamlInvalid):
    """The text declares no budgets. ``problems`` holds what is wrong, in order of lines."""


def _money(value: Any) -> Any:
    """Take a number as it is written: ``0.1`` is a tenth, not the float nearest to it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    try:
        return Decimal(str(value))
    except InvalidOperation as error:
        raise ValueError("expected an amount such as 50 or 0.25") from error


def _duration_s(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("expected a duration such as 90s, 15m, 24h or 7d")
    match = _DURATION.match(value.strip())
    if match is None:
        raise ValueError("expected a duration such as 90s, 15m, 24h or 7d")
    return int(match[1]) * _SECONDS[match[2]]


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class BudgetSpec(BaseModel):
    """One entry under ``budgets:``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    usd: Annotated[Decimal, BeforeValidator(_money)]
    per: Per
    rolling: Annotated[int, BeforeValidator(_duration_s)] | None = None
    time_zone: str = "UTC"
    mode: Mode = "soft"
    scope: dict[str, Annotated[str, BeforeValidator(_text)]] = Field(default_factory=dict)
    each: list[str] = Field(default_factory=list)
    warn_at: list[float] = Field(default_factory=lambda: list(WARN_AT))
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    min_output_tokens: int | None = None
    ended: bool = False

    def budget(self, project: str) -> Budget:
        """Return the first revision of it, counting from the beginning of time. Raises BudgetInvalid."""
        try:
            amount_pico = to_pico(self.usd)
        except ValueError as error:
            raise BudgetInvalid("usd", str(error)) from error
        declared = Budget(
            project=project,
            name=self.name,
            revision=1,
            effective_from_us=0,
            amount_pico=amount_pico,
            per=self.per,
            scope=tuple(sorted(self.scope.items())),
            each=tuple(self.each),
            rolling_s=self.rolling,
            time_zone=self.time_zone,
            mode=self.mode,
            warn_at=tuple(self.warn_at),
            max_input_tokens=self.max_input_tokens,
            max_output_tokens=self.max_output_tokens,
            min_output_tokens=self.min_output_tokens,
            ended=self.ended,
        )
        check(declared)
        return declared


class BudgetFile(BaseModel):
    """A file of budgets."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    project: str = "default"
    budgets: list[BudgetSpec] = Field(min_length=1, max_length=MAX_BUDGETS)


_MODELS: Final[Mapping[str, type[BaseModel]]] = {"": BudgetFile, "budgets": BudgetSpec}


def parse_budgets(text: str) -> tuple[Budget, ...]:
    """Return the budgets written in ``text`` (YAML), each as revision 1.

    Raises:
        BudgetsInvalid: with every problem found, by line.
    """
    try:
        value, lines = read_yaml(text, expected="project and budgets")
        declared = BudgetFile.model_validate(value)
    except YamlInvalid as error:
        raise BudgetsInvalid(error.problems) from error
    except ValidationError as error:
        raise BudgetsInvalid(problems_of(error, lines, _MODELS)) from error
    budgets: dict[str, Budget] = {}
    problems: list[Problem] = []
    for index, spec in enumerate(declared.budgets):
        path = f"budgets.{index}"
        try:
            if spec.name in budgets:
                raise BudgetInvalid("name", f"{spec.name} is declared twice")
            budgets[spec.name] = spec.budget(declared.project)
        except BudgetInvalid as error:
            problems.append(_problem(path, error, lines))
    if problems:
        raise BudgetsInvalid(sorted(problems, key=lambda problem: problem.line))
    return tuple(budgets.values())


def _problem(path: str, error: BudgetInvalid, lines: Mapping[str, int]) -> Problem:
    where = error.field if error.field == "project" else f"{path}.{error.field}"
    return Problem(lines.get(where, lines.get(path, 1)), where, error.message)
