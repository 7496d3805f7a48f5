"""What makes vectors of texts, as functions: passages lie below the engine that runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidkit.errors import CorpusError
from fidkit.types import Passage


@dataclass(frozen=True)
class VectorEncoder:
    """What makes vectors of texts, whoever runs it.

    Attributes:
        name: for people, such as `minilm`.
        fingerprint: of everything that decides a vector: weights, vocabulary, pooling.
        dimension: D, numbers of a vector.
        passages: texts of passages, their titles on a line in front, to vectors, float32 [N, D].
        questions: the same of questions; some encoders want other words in front of them.
        apart: passages to vectors, by an encoder that wants title and text apart; `passages` isn't asked.
        others: encoders of the same questions, whose vectors it searches and carries on where they are.
    """

    name: str
    fingerprint: str
    dimension: int
    passages: Callable[[Sequence[str]], NDArray[np.float32]]
    questions: Callable[[Sequence[str]], NDArray[np.float32]]
    apart: Callable[[Sequence[Passage]], NDArray[np.float32]] | None = None
    others: tuple[VectorEncoder, ...] = ()

    def that_made(self, fingerprint: str, dimension: int) -> VectorEncoder | None:
        """This one or one of its `others`, whichever it is that made such vectors."""
        for one in (self, *self.others):
            if (fingerprint, dimension) == (one.fingerprint, one.dimension):
                return one
        return None

    def of_passages(self, passages: Sequence[Passage]) -> NDArray[np.float32]:
        """Vectors [N, D] of passages.

        Raises:
            CorpusError: the encoder gave something else.
        """
        if self.apart is not None:
            return self._checked(self.apart(passages), len(passages))
        return self._checked(self.passages([f"{p.title}\n{p.text}" for p in passages]), len(passages))

    def of_questions(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors [N, D] of questions.

        Raises:
            CorpusError: the encoder gave something else.
        """
        return self._checked(self.questions(texts), len(texts))

    def _checked(self, made: Any, count: int) -> NDArray[np.float32]:
        vectors = np.asarray(made, np.float32)
        if vectors.shape != (count, self.dimension) or not np.isfinite(vectors).all():
            raise CorpusError(
                f"encoder {self.name!r}: expected {count} vectors of {self.dimension} finite numbers, got "
                f"shape {vectors.shape}; check the encoder"
            )
        return vectors
