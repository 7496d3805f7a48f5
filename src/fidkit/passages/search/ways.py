"""The ways in which passages are found, words and meaning, and what either makes of a passage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from fidkit.passages.protocol import Retriever


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

    def explain(self, question: str, k: int) -> list[Mixed]:
        """The k best, best first, equal scores by row."""
        ...


class Alone:
    """One way, whose score is all of the mix.

    Attributes:
        name: of the state that is searched.
    """

    def __init__(self, retriever: Retriever, way: Literal["words", "meaning"]) -> None:
        self.name = retriever.name
        self._retriever, self._way = retriever, way

    def explain(self, question: str, k: int) -> list[Mixed]:
        """See `Explaining`."""
        nothing = Part(None, None, 0.0)
        found = []
        for rank, (row, score) in enumerate(self._retriever.search(question, k), start=1):
            part = Part(rank, score, score)
            words, meaning = (part, nothing) if self._way == "words" else (nothing, part)
            found.append(Mixed(row, score, words, meaning))
        return found
