"""The ways in which passages are found, words and meaning, and what either makes of a passage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fidkit.passages.protocol import Retriever

if TYPE_CHECKING:
    from fidkit.passages.search.dense import Allowed
    from fidkit.passages.search.hybrid import Scorer


@dataclass(frozen=True, slots=True)
class Part:
    """What one of both makes of a passage.

    Attributes:
        rank: among what it found, from 1; None where the passage isn't among that.
        score: its own; None where it gave none.
        share: what the mix counts for it, before weights.
    """

    rank: int | None
    score: float | None
    share: float


@dataclass(frozen=True, slots=True)
class Mixed:
    """A passage that a hybrid search found, and why.

    Attributes:
        row: of the passage.
        score: of the mix.
        words, meaning: what either makes of it.
    """

    row: int
    score: float
    words: Part
    meaning: Part


class Explaining(Protocol):
    """A search that says why it found something."""

    @property
    def name(self) -> str:
        """Of the state that is searched."""
        ...

    def explain_all(
        self, questions: Sequence[str], k: int, allowed: Allowed | None = None
    ) -> list[list[Mixed]]:
        """Of each question the k best among the allowed rows, best first, equal scores by row."""
        ...


class ByWords:
    """Words alone, whose score is all of the mix.

    Attributes:
        name: of the state that is searched.
    """

    def __init__(self, words: Retriever) -> None:
        self.name, self._words = words.name, words

    def explain_all(
        self, questions: Sequence[str], k: int, allowed: Allowed | None = None
    ) -> list[list[Mixed]]:
        """See `Explaining`."""
        if allowed is None:
            found = [self._words.search(question, k) for question in questions]
        else:
            from fidkit.passages.search.hybrid import found_among  # with all of search by meaning

            found = [found_among(self._words, question, k, allowed) for question in questions]
        return [[Mixed(row, part.score or 0.0, part, _NOTHING) for row, part in _parts(one)] for one in found]


class ByMeaning:
    """Meaning alone, whose score is all of the mix.

    Attributes:
        name: of the state that is searched.
    """

    def __init__(self, meaning: Scorer) -> None:
        self.name, self._meaning = meaning.name, meaning

    def explain_all(
        self, questions: Sequence[str], k: int, allowed: Allowed | None = None
    ) -> list[list[Mixed]]:
        """See `Explaining`."""
        found = self._meaning.search_all(questions, k, allowed)
        return [[Mixed(row, part.score or 0.0, _NOTHING, part) for row, part in _parts(one)] for one in found]


def _parts(found: Sequence[tuple[int, float]]) -> list[tuple[int, Part]]:
    return [(row, Part(rank, score, score)) for rank, (row, score) in enumerate(found, start=1)]


_NOTHING = Part(None, None, 0.0)
