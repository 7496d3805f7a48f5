"""Which questions are read together. Plain numbers: no tensors, no clock, no threads.

Questions are ragged: one has 3 short passages, another 100 long ones. What a batch costs goes with the
tokens of all its passages. What it wastes goes with how unequal its questions are, since the fused context
of each is padded to that of the longest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from fidkit.errors import UsageError

T = TypeVar("T")


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


class _Batch:
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
        Numbers of questions, each exactly once; `in_order` brings results back into the questions' order.

    Raises:
        UsageError: a question above a strict budget.
    """
    for number, size in enumerate(sizes, 1):
        limits.check(size, f"question {number}")
    batches: list[list[int]] = []
    batch: _Batch | None = None
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        size = sizes[number]
        if batch is not None and batch.has_room(size) and batch.suits(size):
            batch.add(size)
            batches[-1].append(number)
        else:
            batch = _Batch(limits, size)
            batches.append([number])
    return batches


def in_order(batches: Sequence[Sequence[int]], results: Sequence[Sequence[T]]) -> list[T]:
    """Results of `plan_batches`' batches, in the order of the questions."""
    pairs = (pair for batch, of_batch in zip(batches, results, strict=True)
             for pair in zip(batch, of_batch, strict=True))  # fmt: skip
    return [result for _, result in sorted(pairs, key=lambda pair: pair[0])]


class _Waiting(NamedTuple, Generic[T]):
    item: T
    size: int
    since: float


class Queue(Generic[T]):
    """Questions that come one at a time, for instance to a server.

    Every batch starts with the question that has waited longest, and takes those nearest to it in size:
    each batch shortens the wait of all, so none starves. A batch that has room left waits for more, but
    never longer than `max_wait`.

    Args:
        limits: of a batch.
        max_wait: how long a question waits for company; 0 never waits. In the unit of `now`: seconds or
            steps, as the caller counts.

    Raises:
        UsageError: a negative wait.
    """

    def __init__(self, limits: Limits, max_wait: float) -> None:
        if not max_wait >= 0:
            raise UsageError(f"max_wait is {max_wait}; expected 0 or more")
        self.limits, self.max_wait = limits, max_wait
        self._waiting: list[_Waiting[T]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, item: T, size: int, now: float) -> None:
        """Add a question of `size` passage tokens.

        Raises:
            UsageError: it is above a strict budget.
        """
        self.limits.check(size)
        self._waiting.append(_Waiting(item, size, now))

    def take(self, now: float) -> list[T]:
        """The questions to read now, oldest first; empty if it is better to wait for more."""
        if not self._waiting:
            return []
        chosen, full = self._gather()
        if not full and now - self._waiting[0].since < self.max_wait:
            return []
        items = [self._waiting[place].item for place in chosen]
        self._waiting = [w for place, w in enumerate(self._waiting) if place not in chosen]
        return items

    def _gather(self) -> tuple[list[int], bool]:
        """Places of the oldest question and its company, and whether waiting could add nothing to them."""
        oldest = self._waiting[0].size
        batch, chosen, full = _Batch(self.limits, oldest), [0], False
        nearest = sorted(
            range(1, len(self._waiting)), key=lambda place: abs(self._waiting[place].size - oldest)
        )
        for place in nearest:
            size = self._waiting[place].size
            if batch.has_room(size) and batch.suits(size):
                batch.add(size)
                chosen.append(place)
            elif not batch.has_room(size) and _Batch(self.limits, oldest).has_room(size):
                full = True  # it came too late; what fits with nobody proves nothing
        return sorted(chosen), full or not batch.has_room(1)


def largest_batch(fits: Callable[[int], bool], upper: int) -> int:
    """The largest batch up to `upper` that fits, 0 if none does.

    Doubles until one doesn't fit, then halves the gap: about 2 log2 of the result tries, none of them of
    more than twice the result.

    Args:
        fits: tries a batch of so many questions; if one fits, all smaller ones do.
        upper: don't look further.
    """
    good, bad = 0, upper + 1
    for size in _doubling(upper):
        if not fits(size):
            bad = size
            break
        good = size
    while bad - good > 1:
        middle = (good + bad) // 2
        if fits(middle):
            good = middle
        else:
            bad = middle
    return good


def _doubling(upper: int) -> Iterator[int]:
    size = 1
    while size < upper:
        yield size
        size *= 2
    if upper > 0:
        yield upper
