"""What generation steps through, and what it returns.

Letters: B questions, W rows of a question (beams or samples), N = B * W rows, those of a question together,
V vocabulary, T tokens of an answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from fidkit import arrays
from fidkit.arrays import Array
from fidkit.config import ReaderConfig
from fidkit.context import IGNORED, Context
from fidkit.errors import CheckpointError

Watch = Callable[[Array], None]
"""Sees one token [B] of each question's answer, `IGNORED` after its end."""

_STEPS_BETWEEN_LOOKS = 8


class Cache(Protocol):
    """What a source of steps keeps between them."""

    def select(self, rows_N: Array) -> None:
        """Let row i go on from what row `rows_N[i]` has written; both are rows of the same question."""


C = TypeVar("C", bound=Cache)
R = TypeVar("R")

Stepwise = Generator[None, None, R]
"""Work with pauses between its steps, in which whoever runs it may do something else."""


def within(work: Stepwise[R], around: Callable[[], AbstractContextManager[object]]) -> Stepwise[R]:
    """The same work, each step within a context of its own, and its pauses outside."""
    while True:
        with around():
            try:
                next(work)
            except StopIteration as end:
                result: R = end.value
                return result
        yield


def whole(work: Stepwise[R]) -> R:
    """What comes of work, without a pause."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: R = end.value
            return result


class Steps(Protocol[C]):
    """A decoder, one token at a time: the plain `Reader`, or a faster runner of the same reader."""

    @property
    def config(self) -> ReaderConfig: ...

    def start(self, context: Context, max_tokens: int, beams: int = 1) -> C:
        """Make ready for `max_tokens` steps of `beams` rows for each question of the context."""
        ...

    def step(self, ids_N: Array, cache: C) -> Array:
        """Logits [N, V] (float32) of the token after `ids_N`; the first token is the padding token."""
        ...


def next_log_probabilities(source: Steps[C], ids_N: Array, cache: C, position: int) -> Array:
    """[N, V] of the token after `ids_N`, the one at `position`; the first are looked at.

    Raises:
        CheckpointError: they are no numbers. Weights may be finite and yet too large to be multiplied.
    """
    logits_NV = source.step(ids_N, cache)
    if position == 0 and not math.isfinite(float(logits_NV.max())):
        raise CheckpointError(
            "what the reader makes of the question and its passages is too large to be a number; take an "
            "earlier checkpoint, or download the reader again"
        )
    return arrays.log_softmax(logits_NV)


@dataclass(frozen=True)
class Generated:
    """Answers of B questions as tokens: `n_best` rows a question, those of a question together, best first.

    Attributes:
        ids_BT: generated tokens, the end included, then `IGNORED`; usable as labels. [B * n_best, T].
        log_probabilities_BT: of each token as the reader has it, whatever the temperature and whatever was
            withheld from it; 0 after the end. A row for which no hypothesis was left starts with -inf.
        n_best: rows of a question.
        length_penalty: exponent of the length in `scores`.
    """

    ids_BT: Array
    log_probabilities_BT: Array
    n_best: int = 1
    length_penalty: float = 1.0

    @property
    def lengths(self) -> Array:
        """Tokens of each row, the end of sequence included."""
        return (self.ids_BT != IGNORED).sum(1)

    @property
    def scores(self) -> Array:
        """Summed log-probability of each row over length ** length penalty; by default the mean."""
        return self.log_probabilities_BT.sum(1) / self.lengths.clip(min=1) ** self.length_penalty

    @property
    def best(self) -> Generated:
        """The best row of each question alone, and no longer than needed."""
        best = replace(self._at(slice(None, None, self.n_best)), n_best=1)
        return best.trimmed()

    def trimmed(self) -> Generated:
        """Without columns after the end of every row. Waits for the device."""
        T = int(self.lengths.max()) if len(self.ids_BT) else 0
        return self._at((slice(None), slice(T)))

    def ranked(self) -> Generated:
        """With each question's rows in order of their scores."""
        order_BW = arrays.descending(self.scores.reshape(-1, self.n_best))
        first_B1 = self.n_best * arrays.arange(len(order_BW), order_BW)[:, None]
        return self._at((first_B1 + order_BW).flatten())

    def _at(self, index: Any) -> Generated:
        ids, log_probabilities = self.ids_BT[index], self.log_probabilities_BT[index]
        return replace(self, ids_BT=ids, log_probabilities_BT=log_probabilities)


def time_to_look(step: int, ids: Array) -> bool:
    """Whether to ask after this step if all answers have ended.

    A CPU answers at once. A GPU runs ahead of its host, and would have to be waited for: it is asked every
    few steps, and the superfluous ones change nothing.
    """
    return arrays.answers_at_once(ids) or (step + 1) % _STEPS_BETWEEN_LOOKS == 0
