"""A policy as it is under controls: arms that may not serve, one arm that must, or nothing tried at all.

The draw stays what it was, among what is left: the propensities logged are those of the arms that could be chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from flywheel.policy.decide import Arm, CompiledPolicy, framed


class Constraint(NamedTuple):
    """One control: ``disable`` its arms, ``pin`` the first of its arms the policy has, or ``pause``."""

    control_id: str
    kind: Literal["disable", "pin", "pause"]
    arms: tuple[str, ...] = ()


def constrain(compiled: CompiledPolicy, constraints: Sequence[Constraint]) -> CompiledPolicy:
    """Return the policy under ``constraints``; itself where none of them bears on it.

    Disabling never leaves a feature without an arm: what would disable every enabled arm is without effect, as an arm
    that is troubled serves better than none. A disabled default gives way to the first arm that is left. A pin on an
    arm that is disabled, here or by the charter, or unknown, is without effect. Pins come before pauses.
    """
    bits = {arm.name: 1 << index for index, arm in enumerate(compiled.arms)}
    mask, bore = compiled.full_mask, []
    for each in constraints:
        left = mask & ~_bits(each, bits) if each.kind == "disable" else mask
        if left and left != mask:
            mask = left
            bore.append(each.control_id)
    for each in constraints:
        pinned = next((bit for name in each.arms if (bit := bits.get(name, 0)) & mask), 0) if each.kind == "pin" else 0
        if pinned:
            mask = pinned
            bore.append(each.control_id)
            break
    paused = [each.control_id for each in constraints if each.kind == "pause"]
    bore += paused[:1]
    if not bore:
        return compiled
    control = "+".join(sorted(bore))
    return replace(
        compiled,
        full_mask=mask,
        # A draw under controls is another decision than one without: its id, and so its draw, is its own.
        framed_version=compiled.framed_version + framed(control),
        default=_default(compiled, mask),
        paused=bool(paused),
        control=control,
        subsets={},
    )


def _bits(constraint: Constraint, bits: dict[str, int]) -> int:
    found = 0
    for name in constraint.arms:
        found |= bits.get(name, 0)
    return found


def _default(compiled: CompiledPolicy, mask: int) -> Arm:
    """Return the default arm, or the first of ``mask`` where a control took it away."""
    left = [arm for index, arm in enumerate(compiled.arms) if mask >> index & 1]
    place = next(index for index, arm in enumerate(compiled.arms) if arm is compiled.default)
    taken_away = compiled.full_mask >> place & 1 and not mask >> place & 1
    return left[0] if taken_away and left else compiled.default
