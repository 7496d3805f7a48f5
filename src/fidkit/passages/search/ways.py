"""The ways in which passages are found, words and meaning, and what either makes of a passage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fidkit.passages.search.dense import Allowed


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
        words, meaning: what either makes of it; None of one that wasn't asked.
    """

    row: int
    score: float
    words: Part | None
    meaning: Part | None


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
