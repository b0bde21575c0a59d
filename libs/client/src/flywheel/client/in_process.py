"""Deciding in the caller's own process, with the router's policies and the router's code. Imported only where that is
asked for, so that other callers do without what it needs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import httpx

from flywheel.client.emitter import Emitter
from flywheel.client.policies import PolicyFollower
from flywheel.client.records import ContextValue, Decision, json_value
from flywheel.policy import DecideRequest, decide, decision_event

Absence = Literal["no_policy", "unknown_feature"]


class InProcess:
    """Decides with the policies it follows; each decision is reported to the router in the background."""

    def __init__(self, emitter: Emitter, transport: httpx.BaseTransport | None) -> None:
        self._emitter = emitter
        self._options = emitter.options
        self._follower = PolicyFollower(self._options.router_url, self._options.project, transport)
        emitter.on_fork(self._follower.forget_parent)
        emitter.on_close(self._follower.stop)

    def load(self) -> None:
        """Follow the router's policies; the first time, wait for them as long as a decision may take."""
        self._follower.load(self._options.decide_timeout_s)

    @property
    def budgeted(self) -> bool:
        """Whether the router must be asked: it has the leases of the budgets that hold decisions of the project."""
        return self._follower.budgeted

    @property
    def loaded(self) -> bool:
        """Whether policies were read; until then a decision may wait for them once."""
        return self._follower.loaded

    def decide(
        self, feature: str, request_id: str, context: Mapping[str, ContextValue], user: str | None, default_arm: str
    ) -> Decision:
        """Decide with the policy held."""
        options = self._options
        compiled = self._follower.get(feature)
        who = self._emitter.identify(user)
        request = DecideRequest(
            project=options.project,
            feature=feature,
            request_id=request_id,
            context={name: float(v) if type(v) is int else v for name, v in context.items()},
            app=options.app,
            environment=options.environment,
            team=options.team,
            user_hash=who.get("user_hash"),
            default_arm=default_arm,
        )
        now_us = time.time_ns() // 1000
        absence: Absence = "unknown_feature" if self._follower.serves else "no_policy"
        made = decide(compiled, request, now_us, absence=absence)
        event: dict[str, Any] = {**decision_event(made, request, occurred_at_us=now_us), **who}
        del event["decider"]
        self._emitter.decision(event)
        return Decision(
            decision_id=made.decision_id,
            arm=made.arm,
            propensity=made.propensity,
            fallback=made.fallback,
            reason=made.reason,
            project=options.project,
            feature=feature,
            request_id=request_id,
            model=made.model,
            prompt_name=made.prompt_name,
            prompt_version=made.prompt_version,
            params={name: json_value(text) for name, text in made.params.items()},
            policy=made.policy,
            policy_version=made.policy_version,
            policy_kind=made.policy_kind,
            propensities=dict(zip(made.arms, made.propensities, strict=True)),
        )
