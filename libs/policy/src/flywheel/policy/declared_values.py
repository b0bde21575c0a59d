"""What every declared model is built of: numbers, durations and names as a user writes them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$"
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*([smhd])$")


class Declared(BaseModel):
    """A frozen model that takes nothing it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _number(value: Any) -> Any:
    """Let an int stand where a float is declared, and nothing else (a bool is not a number)."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def seconds_of(value: Any) -> Any:
    """Turn ``24h`` into 86400.0."""
    if isinstance(value, str):
        match = _DURATION.match(value.strip())
        if match is None:
            raise ValueError("expected a duration such as 90s, 15m, 24h or 7d")
        return float(match[1]) * _SECONDS[match[2]]
    return value


Number = Annotated[float, BeforeValidator(_number)]
Seconds = Annotated[float, BeforeValidator(seconds_of), Field(gt=0, le=366 * 86400)]
Name = Annotated[str, Field(pattern=_NAME)]
