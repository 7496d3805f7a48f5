"""How an answer is written, as a value. No tensors here: the command line reads it too."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from fidkit.errors import UsageError

Stop = str | tuple[int, ...]
"""A text or tokens after which an answer ends."""


@dataclass(frozen=True)
class Decoding:
    """Greedy as it stands; beam search with `beams`, sampling with `temperature`.

    Attributes:
        max_tokens: tokens of an answer at most, the end of sequence included.
        min_tokens: the end of sequence is not among the first so many tokens.
        beams: hypotheses that beam search follows; 1 is greedy.
        length_penalty: a hypothesis scores its summed log-probability over its length to this power: 0
            compares sums, 1 means; the larger, the longer the answers.
        temperature: 0 takes the likeliest token; above, tokens are drawn from the distribution with its
            logits divided by this.
        top_k: draw among so many likeliest tokens; None draws among all.
        top_p: draw among the likeliest tokens that together have at least this probability, after
            temperature and `top_k`.
        seed: of the drawing.
        n_best: answers a question: the best hypotheses of beam search, or independent samples.
        stop: an answer ends with the first of these that it contains, and keeps it. Texts need a tokenizer
            and a look at the text in every step, for which a GPU has to wait; tokens don't.
        no_repeat_ngram: no so many tokens in a row twice in an answer; 0 is off.
        extractive: whether an answer has to be a piece of a passage's title or text. None is up to the reader
            (`ReaderConfig.extractive`).
        loops: whether tokens in a row may be written twice, one right after the other, where the question
            and its passages don't have them so. None is up to the reader: one that copies
            (`ReaderConfig.token_skip`) may not, since that is how it fails, and training doesn't cure it.

    Raises:
        UsageError: a value out of range, or values that exclude each other.
    """

    max_tokens: int = 32
    min_tokens: int = 0
    beams: int = 1
    length_penalty: float = 1.0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0
    n_best: int = 1
    stop: tuple[Stop, ...] = ()
    no_repeat_ngram: int = 0
    extractive: bool | None = None
    loops: bool | None = None

    def __post_init__(self) -> None:
        for problem in (*self._out_of_range(), *self._at_odds()):
            raise UsageError(problem)

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn."""
        return self.temperature > 0

    @property
    def rows(self) -> int:
        """Rows of a question that are decoded side by side."""
        return self.n_best if self.samples else self.beams

    def _out_of_range(self) -> Iterator[str]:
        for name, least in (("max_tokens", 1), ("min_tokens", 0), ("beams", 1), ("n_best", 1),
                            ("no_repeat_ngram", 0)):  # fmt: skip
            if getattr(self, name) < least:
                yield f"{name} is {getattr(self, name)}; expected {least} or more"
        if not math.isfinite(self.length_penalty):
            yield f"length_penalty is {self.length_penalty}; expected a number, such as 1 (mean) or 0 (sum)"
        if not 0 <= self.temperature < math.inf:
            yield f"temperature is {self.temperature}; expected 0 (no sampling) or more, such as 0.7"
        if self.top_k is not None and self.top_k < 1:
            yield f"top_k is {self.top_k}; expected 1 or more, or nothing to draw among all tokens"
        if not 0 < self.top_p <= 1:
            yield f"top_p is {self.top_p}; expected more than 0 and at most 1, such as 0.9"
        if not 0 <= self.seed < 2**63:
            yield f"seed is {self.seed}; expected 0 to 2**63 - 1"
        if isinstance(self.stop, str) or not all(self.stop):
            yield f"stop is {self.stop!r}; expected a tuple of texts or of tuples of tokens, none empty"

    def _at_odds(self) -> Iterator[str]:
        if self.min_tokens > self.max_tokens:
            yield (
                f"min_tokens is {self.min_tokens} and max_tokens {self.max_tokens}; expected the minimum not "
                "to exceed the maximum: lower one or raise the other"
            )
        if self.samples and self.beams > 1:
            yield (
                f"beams is {self.beams} and temperature {self.temperature}; expected beam search or "
                "sampling: leave out one of them (n_best draws several samples)"
            )
        if not self.samples and self.n_best > self.beams:
            yield (
                f"n_best is {self.n_best} but beams {self.beams}; expected at most as many answers as beams: "
                f"set beams to {self.n_best}, or a temperature to draw samples"
            )
        if not self.samples and (self.top_k is not None or self.top_p < 1):
            yield (
                "top_k and top_p say which tokens to draw from, but temperature is 0, which draws none; "
                "set a temperature, such as 1"
            )


GREEDY = Decoding()
