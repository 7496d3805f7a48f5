"""Search by words alone, or by meaning alone, that says why it found something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fidkit.passages.protocol import Retriever
from fidkit.passages.search.ways import Mixed, Part

if TYPE_CHECKING:
    from fidkit.passages.search.dense import Allowed
    from fidkit.passages.search.hybrid import Scorer


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
        return [[Mixed(row, part.score or 0.0, part, None) for row, part in _parts(one)] for one in found]


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
        return [[Mixed(row, part.score or 0.0, None, part) for row, part in _parts(one)] for one in found]


def _parts(found: Sequence[tuple[int, float]]) -> list[tuple[int, Part]]:
    return [(row, Part(rank, score, score)) for rank, (row, score) in enumerate(found, start=1)]
