"""Self-supervised questions: a span of a sentence is asked for by the words around it.

"Amundsen reached the South Pole in December 1911." gives the question "When Amundsen reached South
Pole?" with the answer "December 1911". A reader learns to match a question to its sentence and to copy
from it, long before it has seen enough real questions.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fidkit.errors import DataError
from fidkit.train.data.examples import Drawn
from fidkit.train.specs import StageSpec
from fidkit.types import Passage

SENTENCE_END = re.compile(r'(?<=[.!?;]) +(?=[A-Z"(])')
MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
NAME = re.compile(r"[A-Z][\w'’.-]*\w(?: (?:of |the |de |von |and )?[A-Z][\w'’-]*\w)*")
NUMBER = re.compile(
    rf"\d{{1,2}} (?:{MONTHS}) \d{{4}}|(?:{MONTHS}) \d{{1,2}}, \d{{4}}"
    r"|\$?\d[\d,.]*\d%?(?: (?:million|billion|percent|km|miles|years|people))?|\b\d+\b"
)
PHRASE = re.compile(r"\b[a-z][a-z-]+(?: [a-z][a-z-]+){0,3}\b")
DATE = re.compile(rf"(?:1\d|20)\d\d$|{MONTHS}")
_STOP = (
    "the a an of in on at to by for with and or is was were are be been it its this that these those he she "
    "they his her their as from has have had which who not but"
)
STOP_WORDS = frozenset(_STOP.split())
ASKS = {
    "name": ("who", "what", "where", "which", "what", "who"),
    "date": ("when", "what year", "in what year"),
    "number": ("how many", "how much", "what number"),
    "phrase": ("what",),
}
MASK = "<extra_id_0>"
ATTEMPTS = 10_000
"""Passages to try for a cloze; where none of so many has a span to ask for, there is hardly one at all."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a sentence worth asking for."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Cloze:
    """A question with its answer and the passage that holds it."""

    question: str
    answer: str
    passage: Passage


def make_cloze(
    passage: Passage,
    rng: random.Random,
    *,
    sentences: int | None,
    noise: float,
    removed: float,
    masked: float = 0.25,
) -> Cloze | None:
    """Ask for a span of `passage`; None if it has none worth asking for.

    Args:
        passage: where the question comes from.
        rng: decides everything that is random.
        sentences: keep a window of this many sentences as context; None keeps all.
        noise: 0 keeps most words in order, 1 drops and reorders many.
        removed: how often to take the question's own sentence out of the context when its span also
            stands in another sentence, so that the answer can't be found by matching words alone.
        masked: how often to ask with the sentence itself and a mask in place of the span.
    """
    kept = window(SENTENCE_END.split(passage.text), rng, sentences)
    spans = [(i, span) for i, s in enumerate(kept) if len(s.split()) > 4 for span in find_spans(s, rng)]
    if not spans:
        return None
    number, span = rng.choice(spans)
    if rng.random() < removed:
        recurring = [
            (i, s)
            for i, s in spans
            if _stands_elsewhere(kept, i, s) and kept[i][s.start : s.end] not in passage.title
        ]
        if recurring:
            number, span = rng.choice(recurring)
            question = ask(kept[number], span, rng, noise)
            rest = " ".join(kept[:number] + kept[number + 1 :])
            return _cloze(question, kept[number], span, passage, rest)
    question = _mask(kept[number], span) if rng.random() < masked else ask(kept[number], span, rng, noise)
    return _cloze(question, kept[number], span, passage, " ".join(kept))


def _cloze(question: str | None, sentence: str, span: Span, passage: Passage, text: str) -> Cloze | None:
    if question is None:
        return None
    return Cloze(
        question, sentence[span.start : span.end], Passage(passage.id, passage.title, text, passage.source)
    )


def _stands_elsewhere(sentences: list[str], number: int, span: Span) -> bool:
    answer = sentences[number][span.start : span.end]
    return any(answer in other for i, other in enumerate(sentences) if i != number)


def window(sentences: list[str], rng: random.Random, size: int | None) -> list[str]:
    """`size` sentences in a row, starting anywhere; all if there are no more than that."""
    if size is None or len(sentences) <= size:
        return sentences
    start = rng.randint(0, len(sentences) - size)
    return sentences[start : start + size]


def find_spans(sentence: str, rng: random.Random) -> list[Span]:
    """Names of up to six words, numbers and dates, and now and then a phrase in lower case."""
    spans = [
        Span(m.start(), m.end(), "name")
        for m in NAME.finditer(sentence)
        if len(m.group().split()) <= 6 and (m.start() > 0 or " " in m.group())
    ]
    for m in NUMBER.finditer(sentence):
        spans.append(Span(m.start(), m.end(), "date" if DATE.match(m.group()) else "number"))
    # The borders of lower-case phrases are arbitrary: few of them.
    phrases = list(PHRASE.finditer(sentence))
    if phrases and rng.random() < 0.3:
        m = rng.choice(phrases)
        start, end = m.span()
        words = m.group().split()
        while words and words[0] in STOP_WORDS:
            start += len(words.pop(0)) + 1
        while words and words[-1] in STOP_WORDS:
            end -= len(words.pop()) + 1
        if words:
            spans.append(Span(start, end, "phrase"))
    return spans


def ask(sentence: str, span: Span, rng: random.Random, noise: float) -> str | None:
    """A question of some words around the span; None if fewer than two content words are left."""
    left, right = sentence[: span.start].split(), sentence[span.end :].rstrip(" .;!?").split()
    size = rng.choice((4, 6, 8, 10, 14) if rng.random() < noise else (8, 10, 12))
    before = rng.randint(0, min(size, len(left)))
    words = left[len(left) - before :] + right[: max(0, size - before)]
    words = [w for w in words if rng.random() > noise * (0.5 if w.lower() in STOP_WORDS else 0.12)]
    if rng.random() < 0.5 * noise:
        cut = rng.randint(0, len(words))
        words = words[cut:] + words[:cut]
    if sum(len(w) > 3 for w in words) < 2:
        return None
    question = " ".join([rng.choice(ASKS[span.kind]), *words]) + "?"
    return question[0].upper() + question[1:]


def _mask(sentence: str, span: Span) -> str | None:
    if sum(len(w) > 3 for w in (sentence[: span.start] + sentence[span.end :]).split()) < 2:
        return None
    return f"{sentence[: span.start]}{MASK}{sentence[span.end :]}"


class ClozeTask:
    """Clozes made of passages, in any order."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        if not passages:
            raise DataError(
                "no passages to make cloze questions of; give `passages` that are not all held out"
            )
        self.passages = passages

    def draw(self, number: int, rng: random.Random, stage: StageSpec) -> Drawn:
        for _ in range(ATTEMPTS):
            cloze = make_cloze(
                rng.choice(self.passages),
                rng,
                sentences=stage.sentences,
                noise=stage.noise,
                removed=stage.removed,
            )
            if cloze:
                others = rng.sample(self.passages, min(len(self.passages), stage.passages - 1))
                read = [cloze.passage, *others]
                rng.shuffle(read)
                return Drawn(cloze.question, cloze.answer, read)
        raise DataError(
            f"{ATTEMPTS:,} passages gave no cloze question; expected sentences of five words or more "
            "with a name, a number or a phrase to ask for"
        )
