"""T5's pre-training: spans of a text are taken out, and the decoder writes them (Raffel et al. 2020).

    Thank you for inviting me to your party last week.
    input:  Thank you <extra_id_0> me to your party <extra_id_1> week. </s>
    target: <extra_id_0> for inviting <extra_id_1> last </s>

Documents are tokenised, joined and cut to pieces of one length, so that nothing is padded: with 15 % of
the tokens in spans of 3 on average, 568 tokens make an input of 512 and a target of 114.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fidkit.errors import ConfigError, DataError
from fidkit.tokens import Tokenizer
from fidkit.train.data.documents import Documents
from fidkit.train.data.examples import Example
from fidkit.train.specs import StageSpec, TaskSpec

EMPTY_IN_A_ROW = 1000
"""Documents without a token after which there is hardly one with any."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many tokens go where; the end of sequence is one of `inputs` and one of `targets`.

    Attributes:
        raw: of the text.
        noise: of them, those taken out.
        spans: that they are taken out in; each leaves a sentinel and has one in the target.
    """

    raw: int
    noise: int
    spans: int

    @property
    def inputs(self) -> int:
        return self.raw - self.noise + self.spans + 1

    @property
    def targets(self) -> int:
        return self.noise + self.spans + 1

    @classmethod
    def of(cls, raw: int, spec: TaskSpec) -> Sizes:
        """Of `raw` tokens, two or more: at least one is taken out and one is left."""
        noise = min(max(round(raw * spec.corrupted), 1), raw - 1)
        spans = min(max(round(noise / spec.mean_span), 1), noise, raw - noise)
        return cls(raw, noise, spans)

    @classmethod
    def filling(cls, spec: TaskSpec) -> Sizes:
        """Of the longest text whose input has at most `spec.input_tokens`."""
        raw = 2
        while cls.of(raw + 1, spec).inputs <= spec.input_tokens:
            raw += 1
        return cls.of(raw, spec)


def corrupt(
    tokens: Sequence[int], sizes: Sizes, sentinels: Sequence[int], end: int, rng: random.Random
) -> Example:
    """Take spans out of `tokens`.

    The text begins with what is left and ends with what is taken out, as T5's does.

    Args:
        tokens: as many as `sizes.raw`.
        sizes: how many are taken out, in how many spans.
        sentinels: one a span at least, in order.
        end: the end of sequence.
        rng: decides where.
    """
    inputs: list[int] = []
    target: list[int] = []
    kept, taken = (_split(n, sizes.spans, rng) for n in (sizes.raw - sizes.noise, sizes.noise))
    place = 0
    for sentinel, left, out in zip(sentinels, kept, taken, strict=False):
        inputs += [*tokens[place : place + left], sentinel]
        target += [sentinel, *tokens[place + left : place + left + out]]
        place += left + out
    return Example([], [[*inputs, end]], [*target, end])


def _split(total: int, parts: int, rng: random.Random) -> list[int]:
    """`total` as a sum of `parts` numbers from 1, each way equally likely."""
    borders = [0, *sorted(rng.sample(range(1, total), parts - 1)), total]
    return [b - a for a, b in pairwise(borders)]


def sentinels_of(tokenizer: Tokenizer) -> list[int]:
    """Ids of `<extra_id_0>`, `<extra_id_1>`, ... as far as the vocabulary has them."""
    found: list[int] = []
    while (sentinel := tokenizer.backend.token_to_id(f"<extra_id_{len(found)}>")) is not None:
        found.append(sentinel)
    return found


class SpanCorruptionTask:
    """Documents with spans taken out, as a task that goes from front to back.

    Args:
        documents: to be joined; nothing stands between one and the next.
        tokenizer: with sentinels.
        spec: how much is taken out.

    Raises:
        ConfigError: more spans than the vocabulary has sentinels.
    """

    def __init__(self, documents: Documents, tokenizer: Tokenizer, spec: TaskSpec) -> None:
        if tokenizer.config.memory_vocabulary_size is not None:
            raise ConfigError(
                "span corruption puts the same tokens into passages and targets, but passages have a "
                "vocabulary of their own here (memory_vocabulary_size); train on questions"
            )
        self.documents, self.tokenizer = documents, tokenizer
        self.sizes, self.sentinels = Sizes.filling(spec), sentinels_of(tokenizer)
        if self.sizes.spans > len(self.sentinels):
            raise ConfigError(
                f"inputs of {spec.input_tokens} tokens have {self.sizes.spans} spans taken out, but the "
                f"vocabulary has {len(self.sentinels)} sentinels (<extra_id_0>, ...); shorten input_tokens, "
                "or start from a reader whose tokenizer.json has more"
            )
        # The document in hand: where it began, its tokens, how many of them are used.
        self._begin = documents.state()
        self._tokens: list[int] = []
        self._used = 0

    def draw(self, number: int, rng: random.Random, stage: StageSpec) -> Example:
        end = self.tokenizer.config.end_token
        return corrupt(self._take(self.sizes.raw), self.sizes, self.sentinels, end, rng)

    def state(self) -> dict[str, Any]:
        """Where the document in hand began, and how many of its tokens are used."""
        return {"documents": self._begin, "used": self._used}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a position of `state()`; the document in hand is tokenised again."""
        self.documents.restore(state["documents"])
        self._begin, self._tokens, self._used = state["documents"], [], 0
        if state["used"]:
            self._next_document()
            self._used = state["used"]

    def _take(self, count: int) -> list[int]:
        taken: list[int] = []
        while len(taken) < count:
            if self._used == len(self._tokens):
                self._next_document()
            part = self._tokens[self._used : self._used + count - len(taken)]
            self._used += len(part)
            taken += part
        return taken

    def _next_document(self) -> None:
        for _ in range(EMPTY_IN_A_ROW):
            self._begin, self._used = self.documents.state(), 0
            self._tokens = self.tokenizer.encode(self.documents.next())
            if self._tokens:
                return
        raise DataError(f"{EMPTY_IN_A_ROW:,} documents in a row have no text; check the task's files")
