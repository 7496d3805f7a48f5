"""What training learns from: something drawn as text, the same as tokens, and where it is drawn from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from fidkit.context import Batch, collate
from fidkit.tokens import Tokenizer
from fidkit.train.data.windows import read_around
from fidkit.train.specs import StageSpec
from fidkit.types import Passage


@dataclass(frozen=True, slots=True)
class Drawn:
    """A question to learn from: what to write, what to read."""

    question: str
    target: str
    passages: Sequence[Passage]


@dataclass(frozen=True, slots=True)
class Example:
    """`Drawn` as tokens; the target ends with the end of sequence. Text to restore has no question.

    `cut` counts texts, passages or the question, that lost tokens because the reader takes no more.
    """

    question: list[int]
    passages: list[list[int]]
    target: list[int]
    cut: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return len(self.question) * len(self.passages) + sum(map(len, self.passages))

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return len(self.question) + max(map(len, self.passages))


class Task(Protocol):
    """What examples are drawn from."""

    def draw(self, number: int, rng: random.Random, stage: StageSpec) -> Drawn | Example:
        """The `number`-th example of this task; all that is random comes from `rng`.

        A task that is no `Resumable` gives the same for the same arguments, whatever was drawn before.
        """


@runtime_checkable
class Resumable(Protocol):
    """A task that is read from front to back, so that its position is more than a number."""

    def state(self) -> dict[str, Any]:
        """Its position: numbers, texts, lists and dictionaries of them."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a position of `state()`."""


def encode(drawn: Drawn, tokenizer: Tokenizer, target_tokens: int, rng: random.Random) -> Example | None:
    """Tokens of a drawn question; None if its target has more than `target_tokens` of them.

    Question and passages are cut to what the reader takes, passages so that they keep the answer. A target is
    never: a reader that learns half an answer learns to stop there.
    """
    target = tokenizer.target(drawn.target)
    if len(target) > target_tokens:
        return None
    question = tokenizer.question(drawn.question, sentinels=True)
    passages, cut = read_around(drawn.passages, drawn.target, tokenizer, rng)
    return Example(question.ids, passages, target, cut + bool(question.dropped))


def collate_examples(examples: Sequence[Example]) -> Batch:
    """A batch of examples, with labels."""
    return collate(
        [e.question for e in examples], [e.passages for e in examples], [e.target for e in examples]
    )
