"""The policies a router holds. Pure: told of every change, asked for the newest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from flywheel.control import ControlBoard
from flywheel.policy import CompiledPolicy, compile_policy


@dataclass(frozen=True, slots=True)
class Held:
    """A policy, as it was published and as it decides."""

    event: Mapping[str, Any]
    compiled: CompiledPolicy
    version: int


class PolicyBoard:
    """Policies by project and feature; the newest version wins, whatever the order in which they arrive."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._by_feature: dict[tuple[str, str], Held] = {}
        self._projects: frozenset[str] = frozenset()
        self.controls = ControlBoard()
        """What is in force beside the policies."""
        self.revision = 0
        """Counts the changes."""

    def update(self, key: str, event: Mapping[str, Any] | None) -> bool:
        """Take a published policy, or its removal; say whether that changed anything.

        Raises:
            ValueError, KeyError: the policy makes no sense; what was held stays.
        """
        held = self._held.get(key)
        if event is None:
            if held is None:
                return False
            del self._held[key]
            del self._by_feature[held.event["project"], held.event["feature"]]
        else:
            version = int(event["policy_version"])
            if held is not None and version <= held.version:
                return False
            fresh = Held(event, compile_policy(event), version)
            self._held[key] = fresh
            self._by_feature[event["project"], event["feature"]] = fresh
        self._projects = frozenset(project for project, _ in self._by_feature)
        self.revision += 1
        return True

    def get(self, project: str, feature: str) -> Held | None:
        """The newest version for a feature, or None."""
        return self._by_feature.get((project, feature))

    def compiled(self, held: Held | None, now_us: int) -> CompiledPolicy | None:
        """A policy as it decides at ``now_us``: under the controls in force."""
        return self.controls.apply(held.compiled, now_us) if held is not None else None

    def serves(self, project: str) -> bool:
        """Whether any feature of the project has a policy."""
        return project in self._projects

    def __len__(self) -> int:
        return len(self._held)

    def snapshot(self, project: str | None = None) -> tuple[str, list[Mapping[str, Any]]]:
        """All policies (of a project), in order of their keys, and a tag that changes exactly when one of them does."""
        chosen = [held for _, held in sorted(self._held.items()) if project is None or held.event["project"] == project]
        digest = blake2b(digest_size=12)
        for held in chosen:
            digest.update(f"{held.event['project']}\0{held.event['feature']}\0{held.version}\0".encode())
        return f'"{digest.hexdigest()}"', [held.event for held in chosen]
