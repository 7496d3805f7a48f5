"""Search by meaning: the passages whose vectors are most like the question's.

Every binary code is compared with the question's (`scan`), and the best of that are scored by their numbers
of 8 bits against the question's own. That needs no build, and of a million passages it reads less than 50 MB.

Letters: Q questions, D numbers of a vector.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fidkit.passages.search.encoder import VectorEncoder
from fidkit.passages.search.scan import Codes, nearest_codes
from fidkit.passages.search.vectors import Shard, Vectors, signs

Allowed = NDArray[np.bool_] | NDArray[np.int64]
"""Rows that may be found: a mask by row number, whose end leaves the rest out, or row numbers, ascending."""

# Of the 40 passages that are really the best, 0.87 are among 160 candidates, 0.94 among 320, and 0.99 among
# 1,000 (MiniLM, 19,000 passages, 500 questions), which are scored in a millisecond.
_LEAST_CANDIDATES = 1000
_CANDIDATES_A_HIT = 10
_SCORED_AT_ONCE = 16_384
_QUESTIONS_KEPT = 256


class Dense:
    """A finished directory of vectors, opened for searching; safe to use from several threads.

    Attributes:
        name: of the directory.
        vectors: what is in it.
    """

    def __init__(self, directory: Path, encoder: VectorEncoder) -> None:
        """Open.

        Args:
            directory: as `VectorWriter` left it.
            encoder: the one that it was made with, or that knows it (`others`), for questions.

        Raises:
            FileNotFoundError: there is no such directory; a build may have replaced it just now.
            CorpusError: it is damaged, of a newer format, or of another encoder.
        """
        self.name, self.vectors = directory.name, Vectors(directory)
        self._encoder = self.vectors.require(encoder)
        self._lock = threading.Lock()
        self._asked: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def search(self, question: str, k: int, allowed: Allowed | None = None) -> list[tuple[int, float]]:
        """The k best (row, score), best first, equal scores by row; see `search_all`."""
        return self.search_all([question], k, allowed)[0]

    def search_all(
        self, questions: Sequence[str], k: int, allowed: Allowed | None = None, candidates: int | None = None
    ) -> list[list[tuple[int, float]]]:
        """Of each question the k best (row, score), best first, equal scores by row.

        The score is the product of both vectors, the cosine where an encoder's have length 1.

        Args:
            questions: any number.
            k: hits of each.
            allowed: rows that may be found; None for all.
            candidates: how many of the scan are scored; None for 10 k and at least 1,000. With as many as
                there are passages, hits are the best of all.

        Raises:
            CorpusError: a vector is damaged, or the encoder gave none.
        """
        return self.nearest(self._of_questions(questions), k, allowed, candidates)

    def nearest(
        self,
        vectors_QD: NDArray[np.float32],
        k: int,
        allowed: Allowed | None = None,
        candidates: int | None = None,
    ) -> list[list[tuple[int, float]]]:
        """`search_all` for questions that are vectors [Q, D] already."""
        most = max(_LEAST_CANDIDATES, _CANDIDATES_A_HIT * k) if candidates is None else max(candidates, k)
        codes = [
            Codes(shard.entries.codes, shard.entries.rows, _mask(shard, allowed))
            for shard in self.vectors.shards
        ]
        if sum(map(len, codes)) <= most:  # all of them are candidates
            places = [[of_shard.places() for of_shard in codes]] * len(vectors_QD)
        else:
            places = nearest_codes(codes, signs(vectors_QD), most)
        return [self._best(vector_D, of_one, k) for vector_D, of_one in zip(vectors_QD, places, strict=True)]

    def score(self, question: str, rows: Sequence[int]) -> list[float | None]:
        """Scores of passages by row, in this order; None for a row that isn't here.

        Raises:
            CorpusError: a vector is damaged, or the encoder gave none.
        """
        [vector_D] = self._of_questions([question])
        wanted = np.array(rows, np.int64)
        scores: list[float | None] = [None] * len(wanted)
        for shard in self.vectors.shards:
            known = shard.entries.rows
            if not len(known) or not len(wanted):
                continue
            places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            here = known[places] == wanted
            if shard.live is not None:
                here &= shard.live[places]
            found = np.flatnonzero(here)
            for at, score in zip(found.tolist(), _scores(shard, places[found], vector_D), strict=True):
                scores[at] = float(score)
        return scores

    def __len__(self) -> int:
        """Number of passages."""
        return len(self.vectors)

    def _of_questions(self, questions: Sequence[str]) -> NDArray[np.float32]:
        """Vectors [Q, D]; those asked for last are kept, since who wants more hits asks again."""
        with self._lock:
            known = {question: self._asked[question] for question in questions if question in self._asked}
        missing = list(dict.fromkeys(question for question in questions if question not in known))
        if missing:
            known |= zip(missing, self._encoder.of_questions(missing), strict=True)
        with self._lock:
            for question in questions:
                self._asked[question] = known[question]
                self._asked.move_to_end(question)
            while len(self._asked) > _QUESTIONS_KEPT:
                self._asked.popitem(last=False)
        if not questions:
            return np.zeros((0, self.vectors.dimension), np.float32)
        return np.stack([known[question] for question in questions])

    def _best(
        self, vector_D: NDArray[np.float32], places: Sequence[NDArray[np.int64]], k: int
    ) -> list[tuple[int, float]]:
        """The k best of some places of each shard."""
        rows, scores = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        for shard, at in zip(self.vectors.shards, places, strict=True):
            rows.append(shard.entries.rows[at])
            scores.append(_scores(shard, at, vector_D))
        all_rows, all_scores = np.concatenate(rows), np.concatenate(scores)
        order = np.lexsort((all_rows, -all_scores))[:k]
        return [(int(all_rows[at]), float(all_scores[at])) for at in order]


def is_allowed(rows: NDArray[np.int64], allowed: Allowed) -> NDArray[np.bool_]:
    """Which of some rows are allowed."""
    if not len(allowed):
        return np.zeros(len(rows), bool)
    if allowed.dtype == bool:
        inside = (rows >= 0) & (rows < len(allowed))
        found: NDArray[np.bool_] = inside & np.take(allowed, rows, mode="clip")
    else:
        found = np.take(allowed, np.searchsorted(allowed, rows), mode="clip") == rows
    return found


def _mask(shard: Shard, allowed: Allowed | None) -> NDArray[np.bool_] | None:
    """Which passages of a shard may be found; None for all."""
    if allowed is None:
        return shard.live
    mask = is_allowed(shard.entries.rows, allowed)
    return mask if shard.live is None else mask & shard.live


def _scores(shard: Shard, places: NDArray[np.int64], vector_D: NDArray[np.float32]) -> NDArray[np.float32]:
    """Products with the vectors at some places of a shard, once these are known to be what was written."""
    shard.require(places)
    scores = np.empty(len(places), np.float32)
    for at in range(0, len(places), _SCORED_AT_ONCE):
        some = places[at : at + _SCORED_AT_ONCE]
        # Summed in float64 and rounded once: equal vectors score the same wherever they stand.
        products = shard.entries.vectors[some].astype(np.float64) @ vector_D.astype(np.float64)
        scores[at : at + len(some)] = products * shard.entries.scales[some]
    return scores
