"""What was written, as it is given: in the passages' words, with how sure the reader is, or withheld."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from fidkit.calibration import Calibration, raw_confidence
from fidkit.context import IGNORED
from fidkit.engine.evidence import Looked
from fidkit.engine.generation.decoding import Decoding
from fidkit.engine.generation.generate import Generated
from fidkit.engine.locating import in_their_words, located
from fidkit.engine.meaning import Embed
from fidkit.engine.signals import of_words
from fidkit.tokens import Tokenizer
from fidkit.types import Alternative, Answer, Passage, Without

A = TypeVar("A", Alternative, Without)

_COMPARED = 250
"""Characters of a text that are compared at most: fewer than the encoder takes tokens."""


def quoted(
    tokenizer: Tokenizer,
    generated: Generated,
    passages: Sequence[Sequence[Passage]],
    looked: Looked,
    how: Decoding,
) -> list[Answer]:
    """Answers in the words of their passages, with evidence and alternatives.

    Args:
        tokenizer: of the reader.
        generated: what was written for B questions.
        passages: that were read for each.
        looked: where the decoder looked when it wrote the best answers.
        how: answers were written.
    """
    answers = []
    for (best, others), of_one, shares, tokens in zip(
        _written(tokenizer, generated), passages, looked.shares, looked.tokens, strict=True
    ):
        found = located(tokenizer, best.text, of_one, shares, tokens, pieces=bool(how.extractive))
        also = tuple(in_words_of(of_one, other, how) for other in others)
        answers.append(
            Answer(found.text, best.score, found.evidence, alternatives=also, verbatim=found.verbatim)
        )
    return answers


def judged(
    answers: Sequence[Answer],
    questions: Sequence[str],
    looked: Looked,
    calibration: Calibration | None,
    embed: Embed | None,
) -> list[Answer]:
    """Answers with their confidence; those that are probably wrong are withheld, and remain as guesses.

    Args:
        answers: as `quoted` gives them.
        questions: that they answer.
        looked: when they were written.
        calibration: of the reader; without one, confidence is raw and nothing is withheld.
        embed: compares questions with what their answers stand in; None does without, which is right for all
            that need no such comparison (`fidkit.engine.meaning.embedding_for`).
    """
    given = []
    meanings = _meanings(questions, answers, embed)
    for answer, question, of_tokens, meaning in zip(
        answers, questions, looked.signals, meanings, strict=True
    ):
        words = of_words(question, answer.text, answer.evidence, verbatim=answer.verbatim)
        signals = of_tokens | words | meaning
        withheld, guess = False, answer.text
        if calibration is None:
            confidence = raw_confidence(signals)
        else:
            confidence = calibration.confidence(signals)
            withheld = confidence < calibration.threshold
        text = "" if withheld else guess
        given.append(replace(answer, text=text, guess=guess, confidence=confidence, signals=signals))
    return given


def in_words_of(passages: Sequence[Passage], other: A, how: Decoding) -> A:
    """Another answer as the passages have it, if they do."""
    text = in_their_words(other.text, passages, pieces=bool(how.extractive))
    return other if text is None else replace(other, text=text)


def _written(tokenizer: Tokenizer, generated: Generated) -> list[tuple[Alternative, tuple[Alternative, ...]]]:
    """The best answer to each question, and the others."""
    texts = [tokenizer.decode([i for i in ids if i != IGNORED]) for ids in generated.ids_BT.tolist()]
    answers = [Alternative(text, score) for text, score in zip(texts, generated.scores.tolist(), strict=True)]
    n = generated.n_best
    of_questions = [answers[first : first + n] for first in range(0, len(answers), n)]
    # Beams that found no hypothesis score -inf.
    return [(best, tuple(o for o in others if math.isfinite(o.score))) for best, *others in of_questions]


def _meanings(
    questions: Sequence[str], answers: Sequence[Answer], embed: Embed | None
) -> list[dict[str, float]]:
    """Of each answer, how near in meaning its question and what it stands in are, where that is wanted."""
    if embed is None:
        return [{} for _ in answers]
    asked = [_as_compared(question) for question in questions]
    around = [_as_compared(_stands_in(answer)) for answer in answers]
    texts = list(dict.fromkeys([*asked, *filter(None, around)]))
    vectors = dict(zip(texts, embed(texts), strict=True))
    return [
        {"meaning": float(vectors[q] @ vectors[text])} if text else {}
        for q, text in zip(asked, around, strict=True)
    ]


def _stands_in(answer: Answer) -> str:
    """The sentence that an answer was copied from, a long one near the answer; empty if there is none."""
    for e in answer.evidence:
        if e.place is not None:
            start, end = e.place
            long = len(e.sentence) > _COMPARED
            return e.passage.text[max(0, (start + end - _COMPARED) // 2) :] if long else e.sentence
    return ""


def _as_compared(text: str) -> str:
    """As much of a text as the encoder reads whole, whatever its script."""
    text = text[:_COMPARED]
    while len(unicodedata.normalize("NFKD", text)) > _COMPARED:  # each mark of a character may be a token
        text = text[: len(text) // 2]
    return text
