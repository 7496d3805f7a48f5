"""Self-supervised questions over several passages: what is masked in one stands in others.

A name or a date that recurs is masked in a sentence of one passage; the reader gets the sentence as the
question and other passages to find the answer in, never that one. So it learns to look through all passages
and to match them by what they are about, without a question that a person wrote (after recurring span
retrieval, Ram et al. 2021, arXiv 2112.07708).
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from fidkit.errors import DataError
from fidkit.train.data.cloze import DATE, MASK, MONTHS, NAME, NUMBER, SENTENCE_END, STOP_WORDS
from fidkit.train.data.examples import Drawn
from fidkit.train.specs import StageSpec
from fidkit.types import Passage

MOST_PASSAGES = 100
"""A span that stands in more passages says too little about any of them."""
MOST_WORDS = 6
ATTEMPTS = 10_000
"""Passages to try for a question."""
AROUND = 12
"""Words of the sentence that are kept on each side of the mask."""


def salient_spans(text: str) -> set[str]:
    """Names of two words or more, and dates with a year: what hardly recurs by chance."""
    names = (_without_stop_words(m.group()) for m in NAME.finditer(text))
    dates = (m.group() for m in NUMBER.finditer(text))
    return {name for name in names if 2 <= len(name.split()) <= MOST_WORDS} | {
        date for date in dates if DATE.match(date) or re.search(MONTHS, date)
    }


def _without_stop_words(name: str) -> str:
    """A name as it stands inside a sentence: `South Pole` of `The South Pole`."""
    words = name.split()
    while words and words[0].lower() in STOP_WORDS:
        words.pop(0)
    return " ".join(words)


class RecurringTask:
    """Questions about spans that recur in the passages, in any order.

    Args:
        passages: to ask about and to read.

    Raises:
        DataError: no span recurs in them.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = passages
        counts = Counter(span for passage in passages for span in _spans(passage))
        self._holding: dict[str, list[int]] = {s: [] for s, n in counts.items() if 2 <= n <= MOST_PASSAGES}
        for number, passage in enumerate(passages):
            for span in _spans(passage) & self._holding.keys():
                self._holding[span].append(number)
        if not self._holding:
            raise DataError(
                f"{len(passages):,} passages have no name or date in common to ask for; give more `passages`"
            )

    def draw(self, number: int, rng: random.Random, stage: StageSpec) -> Drawn:
        for _ in range(ATTEMPTS):
            asked = rng.randrange(len(self.passages))
            for question, answer, about in self._questions(self.passages[asked], rng):
                read = self._read(asked, answer, about, rng, stage.passages)
                if read:
                    return Drawn(question, answer, read)
        raise DataError(
            f"{ATTEMPTS:,} passages gave no question about a span that recurs; give `passages` with more in "
            "common"
        )

    def _questions(self, passage: Passage, rng: random.Random) -> Iterator[tuple[str, str, set[str]]]:
        """Masked sentences in random order, each with its answer and what else it is about."""
        sentences = [s for s in SENTENCE_END.split(passage.text) if len(s.split()) > 4]
        rng.shuffle(sentences)
        for sentence in sentences:
            spans = sorted(salient_spans(sentence) & self._holding.keys())
            if not spans:
                continue
            answer = rng.choice(spans)
            # A title that gives the answer away is left out.
            title = "" if answer in passage.title else passage.title
            about = {span for span in spans if span not in answer and answer not in span}
            yield mask(sentence, answer, title), answer, about | ({title} if title else set())

    def _read(
        self, asked: int, answer: str, about: set[str], rng: random.Random, count: int
    ) -> list[Passage]:
        """Passages with the answer that share something else with the question, and some without it.

        Empty where none does: then nothing would tell which answer is meant.
        """
        with_answer = [n for n in self._holding[answer] if n != asked]
        shared = {n: self._in_common(n, about) for n in with_answer}
        positives = [n for n in with_answer if shared[n]]
        if not positives:
            return []
        rng.shuffle(positives)
        chosen = sorted(positives, key=lambda n: -shared[n])[: max(1, count // 2)]
        near = {n for span in sorted(about) for n in self._holding.get(span, ())}
        others = sorted(near - set(with_answer) - {asked})
        chosen += rng.sample(others, min(len(others), count - len(chosen)))
        while len(chosen) < min(count, len(self.passages) - 1):
            number = rng.randrange(len(self.passages))
            if number != asked and number not in chosen:
                chosen.append(number)
        rng.shuffle(chosen)
        return [self.passages[n] for n in chosen]

    def _in_common(self, number: int, about: set[str]) -> int:
        passage = self.passages[number]
        return sum(span in passage.text or span in passage.title for span in about)


def _spans(passage: Passage) -> set[str]:
    return salient_spans(passage.text)


def mask(sentence: str, answer: str, title: str = "") -> str:
    """The sentence with a mask in place of every mention of `answer`, cut to some words around the first.

    Args:
        sentence: holds the answer.
        answer: to be masked.
        title: of the passage, put in front; says what the sentence is about.
    """
    before, *after = sentence.split(answer)
    left, right = before.split(" "), MASK.join(after).split(" ")
    cut = " ".join(left[-AROUND - 1 :]) + MASK + " ".join(right[: AROUND + 1])
    return f"{title}: {cut}" if title else cut
