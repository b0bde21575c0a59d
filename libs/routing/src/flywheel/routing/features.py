"""The features a learned router sees of a query, in blocks: its group, its signals, its words, its characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flywheel.routing.texts import TermCounts, Tfidf, grams, principal_directions, signals, words

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

WORD_RANK: Final = 200
GRAM_RANK: Final = 100
MOST_FITTED: Final = 2500
"""Directions are found from at most so many texts."""
MOST_DEVIATIONS: Final = 4.0


@dataclass(frozen=True, slots=True)
class ReadTexts:
    """Everything counted once about some texts, before anything is fitted.

    ``signals`` is (texts, signals), ``groups`` a number for each text (-1: none), ``embeddings`` (texts, dimensions).
    """

    signals: Floats
    words: TermCounts
    grams: TermCounts
    groups: Places
    embeddings: Floats | None = None

    @classmethod
    def of(cls, texts: Sequence[str], groups: Sequence[str | None], embeddings: Floats | None = None) -> ReadTexts:
        """Read texts; groups are numbered in the order of their names."""
        names = {name: place for place, name in enumerate(sorted({g for g in groups if g is not None}))}
        numbered = np.array([-1 if g is None else names[g] for g in groups], dtype=np.intp)
        read = np.array([signals(text) for text in texts])
        return cls(read, TermCounts.of(texts, words), TermCounts.of(texts, grams), numbered, embeddings)


@dataclass(frozen=True, slots=True)
class Space:
    """A text's place among others: fitted on texts alone, never on a label."""

    tfidf: Tfidf
    directions: Floats
    centre: Floats

    @classmethod
    def fit(cls, rows: sparse.csr_matrix, rank: int) -> Space:
        """From the counts of the texts at hand."""
        step = max(1, -(-rows.shape[0] // MOST_FITTED))
        tfidf = Tfidf.fit(rows)
        weighed = tfidf.transform(rows[::step])
        directions = principal_directions(weighed, rank)
        return cls(tfidf, directions, np.asarray((weighed @ directions).mean(axis=0)))

    def transform(self, rows: sparse.csr_matrix) -> Floats:
        """Shape (texts, rank), centred."""
        return np.asarray(self.tfidf.transform(rows) @ self.directions) - self.centre


@dataclass(frozen=True, slots=True)
class Features:
    """Fitted features: what ``transform`` gives, and which columns belong together."""

    groups: Places
    centre: Floats
    spread: Floats
    words: Space
    grams: Space
    embedding_centre: Floats | None
    blocks: tuple[slice, ...]

    @classmethod
    def fit(cls, read: ReadTexts, known: Places) -> Features:
        """From the texts whose places are ``known``; a group or a word found only elsewhere says nothing."""
        found = np.unique(read.groups[known])
        found = found[found >= 0]
        groups = found if len(found) > 1 else found[:0]
        centre, spread = read.signals[known].mean(axis=0), read.signals[known].std(axis=0)
        spaces = (Space.fit(read.words.rows[known], WORD_RANK), Space.fit(read.grams.rows[known], GRAM_RANK))
        embedded = None if read.embeddings is None else read.embeddings[known].mean(axis=0)
        widths = [len(groups), len(centre), len(centre), *(space.directions.shape[1] for space in spaces)]
        widths += [0 if embedded is None else len(embedded)]
        ends = np.cumsum(widths).tolist()
        blocks = tuple(slice(e - w, e) for w, e in zip(widths, ends, strict=True) if w)
        return cls(groups, centre, np.where(spread > 1e-9, spread, 1.0), *spaces, embedded, blocks)

    def transform(self, read: ReadTexts, wanted: Places) -> Floats:
        """Shape (wanted, features)."""
        glance = (read.signals[wanted] - self.centre) / self.spread
        glance = np.clip(glance, -MOST_DEVIATIONS, MOST_DEVIATIONS)
        parts = [
            (read.groups[wanted][:, None] == self.groups[None, :]).astype(np.float64),
            glance,
            np.maximum(glance, 0.0),
            self.words.transform(read.words.rows[wanted]),
            self.grams.transform(read.grams.rows[wanted]),
        ]
        if self.embedding_centre is not None and read.embeddings is not None:
            parts.append(read.embeddings[wanted] - self.embedding_centre)
        return np.hstack(parts)
