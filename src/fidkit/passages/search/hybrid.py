"""Search by words and by meaning together: the best of both, mixed by score or by rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fidkit.passages.protocol import Retriever
from fidkit.passages.search.dense import Allowed, is_allowed
from fidkit.passages.search.ways import Mixed, Part

_LEAST_DEPTH = 100
# Where most of what words find is filtered out: so many times as many are asked for until enough remain.
_WIDER = 4

Found = list[tuple[int, float]]
"""(row, score), best first, equal scores by row."""


class Scorer(Retriever, Protocol):
    """A retriever that looks among given rows, and scores any passage (`dense.Dense`)."""

    def search_all(self, questions: Sequence[str], k: int, allowed: Allowed | None = None) -> list[Found]:
        """Of each question the k best (row, score) among the allowed."""
        ...

    def score(self, question: str, rows: Sequence[int]) -> list[float | None]:
        """Scores of passages; None for what it doesn't have."""
        ...


class Mix(Protocol):
    """How two opinions become one."""

    @property
    def weight(self) -> float:
        """Of meaning, 0 to 1; words have the rest."""
        ...

    def shares(self, ranks: Sequence[int | None], scores: Sequence[float | None], full: bool) -> list[float]:
        """What each candidate counts.

        Args:
            ranks: by one of both, from 1; None for what it didn't find.
            scores: by it; None for what it didn't score.
            full: whether it found as many as were asked for, so that there may be more.
        """
        ...


@dataclass(frozen=True)
class Convex:
    """Scores, the least of the candidates as 0 and the largest as 1.

    A candidate without a score counts as the least: it scores less than the last that was found. Where fewer
    were found than asked for, nothing else matches, and the least is 0, which is what that scores.
    """

    weight: float = 0.5

    def shares(self, ranks: Sequence[int | None], scores: Sequence[float | None], full: bool) -> list[float]:
        """See `Mix`."""
        known = [score for score in scores if score is not None]
        if not known:
            return [0.0] * len(scores)
        least, largest = min(known), max(known)
        if not full and len(known) < len(scores):
            least = min(least, 0.0)
        if largest == least:
            return [0.0 if score is None else 1.0 for score in scores]
        return [0.0 if score is None else (score - least) / (largest - least) for score in scores]


@dataclass(frozen=True)
class Reciprocal:
    """Reciprocal ranks (Cormack and others, SIGIR 2009), for engines whose scores mean nothing elsewhere."""

    weight: float = 0.5
    constant: int = 60

    def shares(self, ranks: Sequence[int | None], scores: Sequence[float | None], full: bool) -> list[float]:
        """See `Mix`."""
        return [0.0 if rank is None else 1 / (self.constant + rank) for rank in ranks]


class Hybrid:
    """Words and meaning as one retriever; as safe to use from several threads as they are.

    Attributes:
        name: of both states.
    """

    def __init__(self, words: Retriever, meaning: Scorer, mix: Mix | None = None) -> None:
        self._words, self._meaning = words, meaning
        self._mix = Convex() if mix is None else mix
        self.name = f"{words.name}+{meaning.name}"

    def search(self, question: str, k: int, allowed: Allowed | None = None) -> Found:
        """The k best (row, score of the mix), best first, equal scores by row."""
        return [(mixed.row, mixed.score) for mixed in self.explain(question, k, allowed)]

    def search_all(self, questions: Sequence[str], k: int, allowed: Allowed | None = None) -> list[Found]:
        """`search` for several questions."""
        return [
            [(mixed.row, mixed.score) for mixed in one] for one in self.explain_all(questions, k, allowed)
        ]

    def explain(self, question: str, k: int, allowed: Allowed | None = None) -> list[Mixed]:
        """What `search` finds, with ranks and scores by words and by meaning."""
        return self.explain_all([question], k, allowed)[0]

    def explain_all(
        self, questions: Sequence[str], k: int, allowed: Allowed | None = None
    ) -> list[list[Mixed]]:
        """`explain` for several questions.

        Args:
            questions: any number.
            k: hits of each.
            allowed: rows that may be found; None for all.

        Raises:
            CorpusError: of either of both.
        """
        depth = max(_LEAST_DEPTH, k)
        by_meaning = self._meaning.search_all(questions, depth, allowed)
        return [
            self._mixed(question, found_among(self._words, question, depth, allowed), found, depth)[:k]
            for question, found in zip(questions, by_meaning, strict=True)
        ]

    def __len__(self) -> int:
        """Number of passages."""
        return max(len(self._words), len(self._meaning))

    def _mixed(self, question: str, words: Found, meaning: Found, depth: int) -> list[Mixed]:
        """All candidates, best first."""
        rows = sorted({row for found in (words, meaning) for row, _ in found})
        scored = dict(meaning)
        unscored = [row for row in rows if row not in scored]
        scored |= {
            row: score
            for row, score in zip(unscored, self._meaning.score(question, unscored), strict=True)
            if score is not None
        }
        word_parts = self._parts(rows, words, dict(words), depth)
        meaning_parts = self._parts(rows, meaning, scored, depth)
        weight = self._mix.weight
        mixed = [
            Mixed(row, (1 - weight) * by_words.share + weight * by_meaning.share, by_words, by_meaning)
            for row, by_words, by_meaning in zip(rows, word_parts, meaning_parts, strict=True)
        ]
        return sorted(mixed, key=lambda one: (-one.score, one.row))

    def _parts(self, rows: Sequence[int], found: Found, scores: dict[int, float], depth: int) -> list[Part]:
        rank_of = {row: rank for rank, (row, _) in enumerate(found, start=1)}
        ranks = [rank_of.get(row) for row in rows]
        of_rows = [scores.get(row) for row in rows]
        shares = self._mix.shares(ranks, of_rows, full=len(found) >= depth)
        return [Part(*part) for part in zip(ranks, of_rows, shares, strict=True)]


def found_among(retriever: Retriever, question: str, k: int, allowed: Allowed | None) -> Found:
    """The k best that are allowed, of a retriever without filters: it is asked for more until enough are."""
    wanted = k
    while True:
        found = retriever.search(question, wanted)
        if allowed is None:
            return found
        among = is_allowed(np.array([row for row, _ in found], np.int64), allowed)
        kept = [hit for hit, good in zip(found, among, strict=True) if good]
        if len(kept) >= k or len(found) < wanted:
            return kept[:k]
        wanted *= _WIDER
