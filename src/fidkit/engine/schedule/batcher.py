"""Which questions are read together. Plain numbers: no tensors, no clock, no threads.

Questions are ragged: one has 3 short passages, another 100 long ones. What a batch costs goes with the
tokens of all its passages. What it wastes goes with how unequal its questions are, since the fused context
of each is padded to that of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fidkit.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """What a batch may hold.

    A question above `tokens` makes a batch alone, unless `strict`.

    Attributes:
        tokens: budget; a question counts the tokens of all its passages.
        padded: every question counts as much as the longest of its batch, as it does in the decoder's
            caches. An encoder without padding needs the plain sum.
        questions: at most so many, or None.
        padding: largest share of padding (0 to 1) in the fused contexts of a batch.
        strict: refuse a question above `tokens`.

    Raises:
        UsageError: a limit that no question could keep.
    """

    tokens: int
    padded: bool = False
    questions: int | None = None
    padding: float = 1.0
    strict: bool = False

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise UsageError(f"a batch's budget is {self.tokens} tokens; expected 1 or more")
        if self.questions is not None and self.questions < 1:
            raise UsageError(f"a batch's limit is {self.questions} questions; expected 1 or more, or none")
        if not 0 <= self.padding <= 1:
            raise UsageError(f"the share of padding is {self.padding}; expected 0 to 1")

    def check(self, size: int, question: str = "the question") -> None:
        """Refuse a question that no batch can hold.

        Raises:
            UsageError: it is above a strict budget; says by how much, and what fits.
        """
        if self.strict and size > self.tokens:
            raise UsageError(
                f"{question} has {size} passage tokens, {size - self.tokens} above the budget; the largest "
                f"that fits has {self.tokens}: give it fewer or shorter passages, or raise the budget"
            )


READ_TOGETHER = Limits(tokens=20 * 600, questions=20)
"""What 20 passages have: their attention scores stay in the cache, larger batches are slower on a CPU.

Characters stand in for tokens, which the reader makes of them only later."""


class Batch:
    """A batch while it is put together; the sizes it is offered may come in any order."""

    def __init__(self, limits: Limits, size: int) -> None:
        self.limits = limits
        self.count, self.sum, self.longest = 1, size, size

    def has_room(self, size: int) -> bool:
        """Whether the budget and the number of questions leave room for one more."""
        limits, count, longest = self.limits, self.count + 1, max(self.longest, size)
        tokens = count * longest if limits.padded else self.sum + size
        return tokens <= limits.tokens and (limits.questions is None or count <= limits.questions)

    def suits(self, size: int) -> bool:
        """Whether padding stays within its share with one more."""
        padded = (self.count + 1) * max(self.longest, size)
        return padded - (self.sum + size) <= self.limits.padding * padded

    def add(self, size: int) -> None:
        self.count, self.sum, self.longest = self.count + 1, self.sum + size, max(self.longest, size)


def plan_batches(sizes: Sequence[int], limits: Limits) -> list[list[int]]:
    """Group questions that are all at hand: neighbours by size go together, the largest first.

    The largest first, so that a batch that doesn't fit into memory shows at once.

    Args:
        sizes: passage tokens of each question.
        limits: of a batch.

    Returns:
        Numbers of questions, each exactly once.

    Raises:
        UsageError: a question above a strict budget.
    """
    for number, size in enumerate(sizes, 1):
        limits.check(size, f"question {number}")
    batches: list[list[int]] = []
    batch: Batch | None = None
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        size = sizes[number]
        if batch is not None and batch.has_room(size) and batch.suits(size):
            batch.add(size)
            batches[-1].append(number)
        else:
            batch = Batch(limits, size)
            batches.append([number])
    return batches
