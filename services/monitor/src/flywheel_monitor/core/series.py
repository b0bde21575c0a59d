"""Which series there are: one for a project's feature, one for each of its arms; so many and no more."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

OTHER: Final = "(other)"
"""The name under which what found no place is counted; no declared name has brackets."""


class Series(NamedTuple):
    """What a window is about. ``arm`` is empty for the feature as a whole."""

    project: str
    feature: str
    arm: str = ""


class Roster:
    """The series that have a place. A feature with a charter always gets one, its arms and everybody else only while
    there is room: in the project, then in all; else they are counted as ``(other)``, and nothing is lost of the sums.
    """

    def __init__(self, most: int = 200, most_of_project: int = 100) -> None:
        self._most, self._most_of_project = most, most_of_project
        self._known: set[Series] = set()
        self._sizes: dict[str, int] = {}
        self._declared: frozenset[tuple[str, str]] = frozenset()

    def __len__(self) -> int:
        return len(self._known)

    @property
    def known(self) -> frozenset[Series]:
        """Every series with a place."""
        return frozenset(self._known)

    def declare(self, features: Collection[tuple[str, str]]) -> None:
        """Say which features have a charter: project and feature."""
        self._declared = frozenset(features)

    def keep(self, used: Collection[Series]) -> None:
        """Say which series have windows: they have a place, and the others lose theirs."""
        self._known = set(used)
        self._sizes = {}
        for series in self._known:
            self._sizes[series.project] = self._sizes.get(series.project, 0) + 1

    def places(self, project: str, feature: str, arm: str) -> tuple[Series, ...]:
        """The series that an event counts in: its feature and, where it names one, its arm."""
        whole = self._placed(Series(project, feature))
        if not arm or whole.feature == OTHER:
            return (whole,)
        part = self._placed(Series(project, feature, arm))
        # An arm without a place is a part of its feature all the same, and is counted in it.
        return (whole, part) if part.feature == feature else (whole,)

    def _placed(self, series: Series) -> Series:
        if series in self._known or (not series.arm and series[:2] in self._declared):
            return self._admit(series)
        if len(self._known) < self._most and self._sizes.get(series.project, 0) < self._most_of_project:
            return self._admit(series)
        # One place more for each project that is known, and one for all the others.
        known = self._sizes.get(series.project, 0) > 0
        return self._admit(Series(series.project if known else OTHER, OTHER))

    def _admit(self, series: Series) -> Series:
        if series not in self._known:
            self._known.add(series)
            self._sizes[series.project] = self._sizes.get(series.project, 0) + 1
        return series
