"""Charter text to ``Charter``: every problem names its line and field."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError

from flywheel.policy.arm_spec import ArmSpec
from flywheel.policy.cascade import Escalation
from flywheel.policy.charter import (
    Budget,
    Charter,
    Missing,
    Objective,
    PolicySpec,
    Prior,
    Reference,
    RewardRange,
    Weights,
)
from flywheel.policy.feature_spec import FeatureSpec
from flywheel.policy.proxies import ProxySpec
from flywheel.policy.service_level import ServiceLevel
from flywheel.policy.strict_yaml import Problem, YamlInvalid, problems_of, read_yaml
from flywheel.policy.tuning import TuneSpec

__all__ = ["CharterInvalid", "Problem", "parse_charter"]

_MODELS: Mapping[str, type[BaseModel]] = {
    "": Charter,
    "objective": Objective,
    "weights": Weights,
    "reference": Reference,
    "reward": RewardRange,
    "missing": Missing,
    "arms": ArmSpec,
    "arms.escalate": Escalation,
    "policy": PolicySpec,
    "policy.prior": Prior,
    "policy.features": FeatureSpec,
    "budgets": Budget,
    "slo": ServiceLevel,
    "tune": TuneSpec,
    "proxies": ProxySpec,
}


class CharterInvalid(YamlInvalid):
    """The text is not a charter."""


def parse_charter(text: str) -> Charter:
    """Return the charter written in ``text`` (YAML); raise ``CharterInvalid`` with every problem found."""
    try:
        value, lines = read_yaml(text, expected="feature, arms and policy")
    except YamlInvalid as error:
        raise CharterInvalid(error.problems) from error
    try:
        return Charter.model_validate(value)
    except ValidationError as error:
        raise CharterInvalid(problems_of(error, lines, _MODELS)) from error
