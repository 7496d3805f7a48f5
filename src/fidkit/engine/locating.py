"""Where an answer stands in the passages that it was copied from, in the document's own writing.

A vocabulary may know neither capitals nor accents, and a decoder puts its own spaces around marks. The text
of a document is none of that: what is quoted should be what stands there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

import sentencex

from fidkit.engine.phrases import is_word_bound, line_around, phrase
from fidkit.engine.windows import begins_at
from fidkit.passages import Passages
from fidkit.tokens import Tokenizer
from fidkit.types import Answer, Evidence, Passage

_EMPHASIS = ("**", "__")
"""Marks of Markdown that open and close."""
_LEFT_OUT = ("Mn", "Cf", "Cc")
_UNREAD = "\N{REPLACEMENT CHARACTER}"
_IN_ASCII = dict.fromkeys([*range(0x21), 0x7F])
"""What `_folded` leaves out of a text in ASCII, for `str.translate`: control characters and white space."""


@dataclass(frozen=True, slots=True)
class Located:
    """An answer in the words of the passages.

    Attributes:
        text: as the passage has it that it was most likely copied from; as it was written where none has it.
        evidence: of each passage, the one with the largest share first.
        verbatim: some passage or title has it.
    """

    text: str
    evidence: tuple[Evidence, ...]
    verbatim: bool


def located(
    tokenizer: Tokenizer,
    answer: str,
    passages: Sequence[Passage],
    shares: Sequence[float],
    tokens: Sequence[int | None],
    *,
    pieces: bool = False,
) -> Located:
    """Find an answer in the passages that were read for it.

    Args:
        tokenizer: knows which characters a token is of.
        answer: as it was written.
        passages: of one question.
        shares: of each passage in the answer.
        tokens: the token of each passage that was looked at when the answer began, or None.
        pieces: answers are pieces of passages, and end where these have the end of a phrase.
    """
    evidence, standing = [], _places(answer, [passage.text for passage in passages], pieces)
    for number in by_share(shares[: len(passages)]):
        passage, share, token = passages[number], shares[number], tokens[number]
        places = standing[number]
        near = tokenizer.start_of(passage, token) if len(places) > 1 and token is not None else None
        place = _chosen(places, answer, passage.text, near, pieces)
        evidence.append(Evidence(passage, share) if place is None else _evidence(passage, share, place))
    quoted = [e.passage.text[slice(*e.place)] for e in evidence if e.place is not None]
    text = quoted[0] if quoted else _first_that_has(answer, [p.title for p in passages], pieces)
    return Located(answer if text is None else text, tuple(evidence), text is not None)


def placed(answer: Answer, corpus: Passages) -> Answer:
    """An answer whose evidence says where in its documents it stands, as far as the corpus knows."""
    evidence = []
    for one in answer.evidence:
        if begins_at(one.passage) is None:
            evidence.append(one)
            continue
        where = corpus.place(one.passage.source, one.span)
        boxes = where.boxes if one.span else ()
        evidence.append(replace(one, where=where.labels(), boxes=boxes))
    return replace(answer, evidence=tuple(evidence))


def in_their_words(answer: str, passages: Sequence[Passage], *, pieces: bool = False) -> str | None:
    """An answer as the first passage has it, or else the first title; None where none has it."""
    return _first_that_has(answer, [*(p.text for p in passages), *(p.title for p in passages)], pieces)


def by_share(shares: Sequence[float]) -> list[int]:
    """Numbers of passages, the one with the largest share first."""
    return sorted(range(len(shares)), key=lambda number: -shares[number])


def _first_that_has(answer: str, texts: Sequence[str], pieces: bool) -> str | None:
    """The answer as the first of some texts has it; None where none has it."""
    for text, places in zip(texts, _places(answer, texts, pieces), strict=True):
        if found := _chosen(places, answer, text, None, pieces):
            return text[found.start : found.end]
    return None


def _places(answer: str, texts: Sequence[str], pieces: bool) -> list[list[Place]]:
    """Where each text has the answer; a piece that none has whole may have been left inside of a word."""
    whole = [occurrences(answer, text) for text in texts]
    if any(whole) or not pieces:
        return whole
    return [occurrences(answer, text, whole_words=False) for text in texts]


def _chosen(places: Sequence[Place], answer: str, text: str, near: int | None, pieces: bool) -> Place | None:
    """The likeliest place; of a piece, the phrase there."""
    place = choose(places, answer, text, near)
    return Place(*phrase(text, place.start, place.end)) if place is not None and pieces else place


def _evidence(passage: Passage, share: float, place: Place) -> Evidence:
    sentence = sentence_around(passage.text, place)
    return Evidence(passage, share, (place.start, place.end), in_document(passage, place), sentence)


@dataclass(frozen=True, slots=True)
class Place:
    """`passage.text[start:end]` reads as the answer does."""

    start: int
    end: int


def occurrences(answer: str, text: str, *, whole_words: bool = True) -> list[Place]:
    """Where the answer stands in a text, in order; only letters and marks count, not case, accents or spaces.

    It begins and ends where words do, except in scripts that are written without spaces, and where
    `whole_words` is off: a piece may have been left in the middle of one.
    """
    wanted, _ = _folded(answer)
    if not wanted:
        return []
    # Most passages don't have it, and most are of characters that fold into one: that is seen much sooner.
    if text.isascii() and wanted not in text.casefold().translate(_IN_ASCII):
        return []
    folded, at = _folded(text)
    found, begin = [], folded.find(wanted)
    while begin >= 0:
        place = Place(at[begin], at[begin + len(wanted) - 1] + 1)
        place = Place(place.start, _with_marks(text, place.end))
        if not whole_words or (is_word_bound(text, place.start) and is_word_bound(text, place.end)):
            found.append(place)
        begin = folded.find(wanted, begin + 1)
    return found


def choose(places: Sequence[Place], answer: str, text: str, near: int | None) -> Place | None:
    """The place that the answer was most likely copied from; None where there is none.

    Those that read exactly so go before others, and then the nearest to the character `near`, or the first.
    """
    if not places:
        return None
    return min(
        places,
        key=lambda place: (
            text[place.start : place.end] != answer,
            place.start if near is None else abs(place.start - near),
        ),
    )


def sentence_around(text: str, place: Place) -> str:
    """The sentences that hold a place, as they stand in the text, without spaces around.

    A row of a table or an item of a list holds no more than itself.
    """
    first, last = line_around(text, place.start, place.end)
    bounds = sentencex.get_sentence_boundaries("en", text)
    starts = [b["start_index"] for b in bounds if b["start_index"] <= place.start]
    ends = [b["end_index"] for b in bounds if b["end_index"] >= place.end]
    sentence = text[max([first, *starts]) : min([last, *ends])].strip()
    for mark in _EMPHASIS:  # its other half stands in the sentence before
        if sentence.startswith(mark) and sentence.count(mark) % 2:
            sentence = sentence.removeprefix(mark).lstrip()
    return sentence


def in_document(passage: Passage, place: Place) -> tuple[int, int]:
    """The same characters of the document that a passage was cut from, or of the passage if none is known."""
    first = begins_at(passage) or 0
    return first + place.start, first + place.end


def _folded(text: str) -> tuple[str, list[int]]:
    """Letters and marks alone, and which character of the text each of them is of.

    What vocabularies leave out is none of them: accents, control characters, and the sign that stands for a
    character which couldn't be read.
    """
    letters: list[str] = []
    at: list[int] = []
    for index, character in enumerate(text):
        for letter in unicodedata.normalize("NFKD", character).casefold():
            if not (letter.isspace() or letter == _UNREAD or unicodedata.category(letter) in _LEFT_OUT):
                letters.append(letter)
                at.append(index)
    return "".join(letters), at


def _with_marks(text: str, end: int) -> int:
    """Behind the accents that belong to the last letter."""
    while end < len(text) and unicodedata.category(text[end]) == "Mn":
        end += 1
    return end
