"""State that is plain JSON: what a detector knows can be stored, moved and read by a person, and never runs code."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self


class StateInvalid(ValueError):
    """A stored state that is not of this kind of detector; names the part."""


_NUMBERS: Final = frozenset({int, float})


class Stateful:
    """A detector whose whole state is its slots: numbers, texts, parts that are ``Stateful``, lists of one of these.

    ``from_json(to_json())`` goes on exactly as the original would have: every later answer is the same float.
    """

    __slots__: tuple[str, ...] = ()
    PARTS: ClassVar[dict[str, type[Stateful]]] = {}

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values; nothing in it is shared with the detector."""
        return {name: _plain(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self:
        """The detector of a state. Raises ``StateInvalid`` where parts are missing or too many."""
        if not isinstance(found, dict) or set(found) != set(cls.__slots__):
            raise StateInvalid(f"{cls.__name__}: a state has exactly {', '.join(cls.__slots__)}")
        made = cls.__new__(cls)
        for name, value in found.items():
            setattr(made, name, _part(cls.PARTS.get(name), value))
        return made


def _plain(value: Any) -> Any:
    if isinstance(value, Stateful):
        return value.to_json()
    if not isinstance(value, list):
        return value
    # A list is of one kind; those of thousands of numbers are copied as they are.
    return value.copy() if value and type(value[0]) in _NUMBERS else [_plain(each) for each in value]


def _part(kind: type[Stateful] | None, value: Any) -> Any:
    if kind is None or value is None:
        return list(value) if isinstance(value, list) else value
    return [kind.from_json(each) for each in value] if isinstance(value, list) else kind.from_json(value)
