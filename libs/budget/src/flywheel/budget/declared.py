"""A budget as declared and as events carry it.

Names here are those a user writes in YAML (``flywheel.budget.budget_yaml`` reads it) and those of the ``budget`` event.
What a budget counts (scope, each, window, zone) never changes under one name, as sums of one thing would become sums of
another; amount, mode, warnings and token bounds may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any, Final, Literal, Self, get_args
from zoneinfo import ZoneInfo

from flywheel.budget.money import to_pico, to_usd
from flywheel.events import event_id

Per = Literal["hour", "day", "week", "month", "rolling"]
Mode = Literal["hard", "soft", "downgrade"]
DIMENSIONS: Final = (
    "app", "feature", "team", "user_hash", "environment", "prompt_name", "prompt_version", "model", "provider",
)  # fmt: skip
MAX_AMOUNT_USD: Final = 10**9
MIN_ROLLING_S, MAX_ROLLING_S = 60, 31 * 86_400
MAX_NAME, MAX_VALUE, MAX_EACH = 128, 256, 3
WARN_AT: Final = (0.5, 0.8, 0.95)


class BudgetInvalid(ValueError):
    """A budget that can't be held. ``field`` names what is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.message = field, message


@dataclass(frozen=True)
class Budget:
    """One revision of a budget: who may spend how much in which window.

    ``scope`` is sorted pairs of dimension and value that a call must have; of every distinct value of the dimensions
    in ``each`` there is a separate budget, an *instance*. Money is in picodollars.
    """

    project: str
    name: str
    revision: int
    effective_from_us: int
    amount_pico: int
    per: Per
    scope: tuple[tuple[str, str], ...] = ()
    each: tuple[str, ...] = ()
    rolling_s: int | None = None
    time_zone: str = "UTC"
    mode: Mode = "soft"
    warn_at: tuple[float, ...] = WARN_AT
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    min_output_tokens: int | None = None
    ended: bool = False

    @cached_property
    def key(self) -> str:
        """``project/name``: what the topics of budgets are partitioned by."""
        return f"{self.project}/{self.name}"

    @property
    def counts(self) -> tuple[Any, ...]:
        """What never changes under one name."""
        return self.scope, self.each, self.per, self.rolling_s, self.time_zone

    @property
    def hard(self) -> bool:
        """Whether a call needs a reservation."""
        return self.mode == "hard" and not self.ended

    def at_revision(self, revision: int, *, effective_from_us: int | None = None, ended: bool = False) -> Budget:
        """Return the same terms as another revision."""
        since = self.effective_from_us if effective_from_us is None else effective_from_us
        return replace(self, revision=revision, effective_from_us=since, ended=ended)

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Self:
        """Return the budget of a ``budget`` event.

        Raises:
            BudgetInvalid: its terms can't be held.
        """
        return cls.from_terms(event["project"], event["budget"], event)

    @classmethod
    def from_terms(cls, project: str, name: str, terms: Mapping[str, Any]) -> Self:
        """Return the budget of these terms: the fields ``revision`` to ``min_output_tokens`` of an event.

        Raises:
            BudgetInvalid: they can't be held.
        """
        budget = cls(
            project=project,
            name=name,
            revision=terms["revision"],
            effective_from_us=terms["effective_from"],
            amount_pico=_pico(terms["amount_usd"]),
            per=terms["per"],
            scope=tuple(sorted(terms["scope"].items())),
            each=tuple(terms["each"]),
            rolling_s=terms["rolling_s"],
            time_zone=terms["time_zone"],
            mode=terms["mode"],
            warn_at=tuple(terms["warn_at"]),
            max_input_tokens=terms["max_input_tokens"],
            max_output_tokens=terms["max_output_tokens"],
            min_output_tokens=terms["min_output_tokens"],
            ended=terms["ended"],
        )
        check(budget)
        return budget

    def terms(self) -> dict[str, Any]:
        """Return the fields of the ``budget`` event that ``from_terms`` takes."""
        return {
            "revision": self.revision,
            "effective_from": self.effective_from_us,
            "ended": self.ended,
            "scope": dict(self.scope),
            "each": list(self.each),
            "amount_usd": to_usd(self.amount_pico),
            "per": self.per,
            "rolling_s": self.rolling_s,
            "time_zone": self.time_zone,
            "mode": self.mode,
            "warn_at": list(self.warn_at),
            "max_input_tokens": self.max_input_tokens,
            "max_output_tokens": self.max_output_tokens,
            "min_output_tokens": self.min_output_tokens,
        }

    def event(self, occurred_at_us: int) -> dict[str, Any]:
        """Return the ``budget`` event that declares it."""
        return {
            "event_id": event_id("budget", self.project, self.name, self.revision),
            "project": self.project,
            "budget": self.name,
            "occurred_at": occurred_at_us,
            **self.terms(),
        }


def check(budget: Budget) -> None:
    """Raise ``BudgetInvalid`` where a budget can't be held; the one place that says what a budget may be."""
    _check_name("project", budget.project)
    _check_name("name", budget.name)
    if budget.revision < 1:
        raise BudgetInvalid("revision", "starts at 1")
    if not 0 < budget.amount_pico <= MAX_AMOUNT_USD * 10**12:
        raise BudgetInvalid("usd", f"must be more than 0 and at most {MAX_AMOUNT_USD}")
    _check_window(budget)
    if budget.mode not in get_args(Mode):
        raise BudgetInvalid("mode", f"must be one of {', '.join(get_args(Mode))}")
    _check_scope(budget)
    if list(budget.warn_at) != sorted(set(budget.warn_at)) or not all(0 < w <= 1 for w in budget.warn_at):
        raise BudgetInvalid("warn_at", "must be shares of the amount above 0 and up to 1, ascending")
    _check_tokens(budget)


def _check_name(field: str, text: str) -> None:
    # Names are parts of keys that are split at slashes.
    if not 0 < len(text) <= MAX_NAME or "/" in text or not text.isprintable():
        raise BudgetInvalid(field, f"must be 1 to {MAX_NAME} printable characters without a slash")


def _check_window(budget: Budget) -> None:
    if budget.per not in get_args(Per):
        raise BudgetInvalid("per", f"must be one of {', '.join(get_args(Per))}")
    if (budget.per == "rolling") != (budget.rolling_s is not None):
        raise BudgetInvalid("rolling", "is the length of a window with `per: rolling`, and only of that")
    if budget.rolling_s is not None and not MIN_ROLLING_S <= budget.rolling_s <= MAX_ROLLING_S:
        raise BudgetInvalid("rolling", f"must lie between {MIN_ROLLING_S} s and {MAX_ROLLING_S // 86_400} days")
    if not known_zone(budget.time_zone):
        raise BudgetInvalid("time_zone", f"{budget.time_zone!r} is no IANA time zone such as Europe/Berlin")


def _check_scope(budget: Budget) -> None:
    for dimension, value in budget.scope:
        if dimension not in DIMENSIONS:
            raise BudgetInvalid(f"scope.{dimension}", f"must be one of {', '.join(DIMENSIONS)}")
        if not 0 < len(value) <= MAX_VALUE:
            raise BudgetInvalid(f"scope.{dimension}", f"must be 1 to {MAX_VALUE} characters")
    if len(set(budget.each)) < len(budget.each) or len(budget.each) > MAX_EACH:
        raise BudgetInvalid("each", f"must name at most {MAX_EACH} different dimensions")
    for dimension in budget.each:
        if dimension not in DIMENSIONS or dimension in dict(budget.scope):
            raise BudgetInvalid("each", f"{dimension}: must be a dimension that scope does not fix")


def _check_tokens(budget: Budget) -> None:
    for field in ("max_input_tokens", "max_output_tokens", "min_output_tokens"):
        tokens = getattr(budget, field)
        if tokens is not None and not 0 < tokens <= 10**9:
            raise BudgetInvalid(field, "must be more than 0 and at most 1000000000")
    most, least = budget.max_output_tokens, budget.min_output_tokens
    if most is not None and least is not None and least > most:
        raise BudgetInvalid("min_output_tokens", "must not be above max_output_tokens")


def changed_identity(known: Budget, declared: Budget) -> str | None:
    """Return the first field that may not change under one name and did, None when all is well."""
    for field in ("scope", "each", "per", "rolling_s", "time_zone"):
        if getattr(known, field) != getattr(declared, field):
            return "rolling" if field == "rolling_s" else field
    return None


@lru_cache(maxsize=1024)
def known_zone(name: str) -> bool:
    """Whether the time zone database has a zone of this name."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError; a folder's name is an OSError
        return False
    return True


def _pico(amount: Decimal) -> int:
    try:
        return to_pico(amount)
    except ValueError as error:
        raise BudgetInvalid("usd", str(error)) from error
