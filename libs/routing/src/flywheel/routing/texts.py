"""What a query's text says before anybody answers it: cheap signals, and TF-IDF in few dimensions.

Everything is fitted on texts alone, never on labels.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

Floats = npt.NDArray[np.float64]

MOST_CHARS: Final = 4000
"""Only so much of a text is looked at: its first half and its last half of this."""
MOST_TERMS: Final = 30_000
SIGNALS: Final = 42
"""How many numbers ``signals`` gives. Weights that were learned on them are declared: another number of them, or
another order, makes these useless."""
_WORD: Final = re.compile(r"\w+|[^\w\s]")
_DIGIT: Final = re.compile(r"\d")
_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")
_OPTION: Final = re.compile(r"(?m)^\s*\(?[A-J][.):]\s*(.*)$")
_SENTENCE: Final = re.compile(r"[.!?]+(?:\s|$)")
_FORMS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\bhow (?:many|much|old|long|far)\b",
        r"\bwhat\b",
        r"\bwhich\b",
        r"\bwho(?:m|se)?\b",
        r"\bwhen\b",
        r"\bwhere\b",
        r"\bwhy\b|\bhow\b",
        r"\b(?:not|except|never|least|incorrect|false|untrue)\b",
        r"\b(?:write|implement|generate|return)\b",
        r"\b(?:each|every|per|twice|times|half|third|quarter|double|percent)\b|%",
        r"\b(?:more|less|fewer|than|remain\w*|left|total|altogether)\b",
        r"\b(?:if|suppose|assume|given|let)\b",
        r"\b(?:follow\w*|above|below|statements?)\b",
    )
)
_MARKS: Final = ("?", "$", "\\", "=", "(", "{", '"', "_", ":", "\n", ",", "/", "-")


def excerpt(text: str) -> str:
    """``text``, or the first and the last half of ``MOST_CHARS`` of a longer one."""
    half = MOST_CHARS // 2
    return text if len(text) <= MOST_CHARS else f"{text[:half]} {text[-half:]}"


def signals(text: str) -> list[float]:
    """Numbers that a glance at a text gives: length, numbers in it, form of the question, options, marks."""
    words, numbers = _WORD.findall(text), _NUMBER.findall(text)
    options = _OPTION.findall(text)
    letters = max(1, len(text))
    lengths = [len(option) for option in options]
    largest = max((float(number.replace(",", "")) for number in numbers if number.count(".") <= 1), default=0.0)
    counted = [
        len(text),
        len(words),
        len(set(words)),
        len(numbers),
        len(set(numbers)),
        sum("." in number for number in numbers),
        len(_SENTENCE.findall(text)),
        len(options),
        sum(lengths) / max(1, len(lengths)),
        max(lengths, default=0) - min(lengths, default=0),
        sum(bool(_NUMBER.search(option)) for option in options),
        min(largest, 1e12),
        *(text.count(mark) for mark in _MARKS),
        *(len(form.findall(text)) for form in _FORMS),
    ]
    shares = [
        sum(map(len, words)) / max(1, len(words)),
        100 * sum(map(str.isdigit, text)) / letters,
        100 * sum(map(str.isupper, text)) / letters,
        100 * (1 - sum(map(str.isascii, text)) / letters),
    ]
    return [float(np.log1p(value)) for value in (*counted, *shares)]


def words(text: str) -> Iterator[str]:
    """Words and pairs of words, lower case; digits as ``0``, so that numbers are known by their shape."""
    found = _WORD.findall(_DIGIT.sub("0", excerpt(text).lower()))
    yield from found
    yield from map(" ".join, pairwise(found))


def grams(text: str) -> Iterator[str]:
    """Runs of three and four characters within words and their borders."""
    for word in _WORD.findall(_DIGIT.sub("0", excerpt(text))):
        padded = f" {word} "
        for size in (3, 4):
            for start in range(len(padded) - size + 1):
                yield padded[start : start + size]


@dataclass(frozen=True, slots=True)
class TermCounts:
    """How often each term is in each text: counted once, so that any part of the texts can be fitted on.

    ``rows`` is (texts, terms).
    """

    terms: dict[str, int]
    rows: sparse.csr_matrix

    @classmethod
    def of(cls, texts: Sequence[str], split: Callable[[str], Iterable[str]]) -> TermCounts:
        """Count the terms that ``split`` finds."""
        terms: dict[str, int] = {}
        starts, places, values = [0], [], []
        for text in texts:
            for term, count in Counter(split(text)).items():
                places.append(terms.setdefault(term, len(terms)))
                values.append(count)
            starts.append(len(places))
        table = (np.array(values, dtype=np.float64), np.array(places, dtype=np.int32), np.array(starts))
        return cls(terms, sparse.csr_matrix(table, shape=(len(texts), len(terms))))


@dataclass(frozen=True, slots=True)
class Tfidf:
    """The terms in use and their inverse document frequencies (smoothed, as scikit-learn's)."""

    columns: npt.NDArray[np.intp]
    idf: Floats

    @classmethod
    def fit(cls, rows: sparse.csr_matrix, *, least: int = 2, most_terms: int = MOST_TERMS) -> Tfidf:
        """Terms found in ``least`` of the rows or more, the ``most_terms`` most widespread of them."""
        found = np.bincount(rows.indices, minlength=rows.shape[1])
        order = np.argsort(-found, kind="stable")[:most_terms]
        columns = order[found[order] >= least]
        return cls(columns, np.log((1 + rows.shape[0]) / (1 + found[columns])) + 1)

    def transform(self, rows: sparse.csr_matrix) -> sparse.csr_matrix:
        """One row a text, of length 1: (1 + log count) times idf."""
        kept = rows[:, self.columns].astype(np.float64)
        kept.data = 1 + np.log(kept.data)
        weighed = (kept @ sparse.diags(self.idf)).tocsr()
        norms = np.sqrt(np.asarray(weighed.multiply(weighed).sum(axis=1)).ravel())
        return (sparse.diags(1 / np.where(norms > 0, norms, 1.0)) @ weighed).tocsr()


def principal_directions(rows: sparse.csr_matrix, rank: int, *, seed: int = 0) -> Floats:
    """The leading right singular vectors, shape (columns, at most rank): a randomised range finder, two power
    iterations.

    Halko, Martinsson, Tropp (2011), "Finding structure with randomness", algorithms 4.4 and 5.1; the small side alone
    is
    made orthogonal, as there are many more terms than texts.
    """
    width = min(rank + 16, *rows.shape)
    if width == 0:
        return np.zeros((rows.shape[1], 0))
    start = np.random.default_rng(seed).standard_normal((rows.shape[0], width))
    basis = np.linalg.qr(start)[0]
    for _ in range(3):
        basis = np.linalg.qr(rows @ (rows.T @ basis))[0]
    small = rows.T @ basis
    values, vectors = np.linalg.eigh(small.T @ small)
    kept = [place for place in np.argsort(-values)[:rank] if values[place] > 1e-9]
    return np.ascontiguousarray(small @ (vectors[:, kept] / np.sqrt(values[kept])))
