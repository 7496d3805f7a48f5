"""Records that travel between the parts. No tensors here: importing this module is cheap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from fidkit.passages.load.document import Box


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document, about 100 words.

    `source` says where the text stands, for a person: `notes/a.md:120-734` (characters) or the name of
    the passage file it came from. Empty when unknown.
    """

    id: str
    title: str
    text: str
    source: str = ""


def distinct(passages: Sequence[Passage]) -> list[Passage]:
    """Passages in their order, each title and text once."""
    first: dict[tuple[str, str], Passage] = {}
    for passage in passages:
        first.setdefault((passage.title, passage.text), passage)
    return list(first.values())


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that a search found. `score` is the engine's own (BM25: higher is better, unbounded)."""

    passage: Passage
    score: float


@dataclass(frozen=True, slots=True)
class Without:
    """What would be, had a passage not been found.

    Attributes:
        text: the answer then.
        score: of the answer that was given, then: mean log-probability of its tokens. The further below the
            answer's own score, the more the answer rests on the passage.
    """

    text: str
    score: float

    def to_json(self) -> dict[str, Any]:
        return {"answer": self.text, "score": self.score}


def boxes_to_json(boxes: Sequence[Box]) -> list[dict[str, float]]:
    """Boxes for those who mark them: page, counted from 1, and edges in points from its upper left corner."""
    return [
        {"page": b.page, "left": b.left, "top": b.top, "right": b.right, "bottom": b.bottom} for b in boxes
    ]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A passage that was read for an answer; `score` is its share of the answer (all shares sum to 1).

    A reader that reranks has shares by its own ranking, any other by the decoder's attention.

    Attributes:
        passage: that was read.
        score: its share.
        place: characters of `passage.text` where the answer stands, the one it was most likely copied from;
            None where it doesn't stand there.
        span: the same in the document that the passage was cut from, or in the passage where none is known.
        sentence: of the passage, around the answer; empty without a place.
        without: where evidence was tested, what would be without the passage; None where it wasn't, or where
            nothing else would be left to read.
        where: in the document, by kind of place, the answer or else the passage stands: `{"page": "3"}`.
        boxes: of the answer on its pages, one a line, where that is known.
    """

    passage: Passage
    score: float
    place: tuple[int, int] | None = None
    span: tuple[int, int] | None = None
    sentence: str = ""
    without: Without | None = None
    where: dict[str, str] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()

    def to_json(self) -> dict[str, Any]:
        p = self.passage
        record = {"id": p.id, "title": p.title, "text": p.text, "score": self.score, "source": p.source}
        span = None if self.span is None else list(self.span)
        without = None if self.without is None else self.without.to_json()
        boxes = boxes_to_json(self.boxes)
        record |= {"span": span, "sentence": self.sentence, "without": without}
        return record | {"where": self.where, "boxes": boxes}


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another answer to the same question: a further hypothesis of beam search, or a further sample."""

    text: str
    score: float

    def to_json(self) -> dict[str, Any]:
        return {"answer": self.text, "score": self.score}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with what it rests on.

    Attributes:
        text: the answer, as it is written in the passages where it stands there; empty where it was withheld
            because the passages don't seem to hold one, or where the reader ended at once.
        score: mean log-probability of the answer's tokens, end of sequence included (0 is certain); with
            another length penalty than 1, their sum over their number to that power.
        evidence: the passages read, the one with the largest share first; where evidence was tested, first
            those that were, the one first that the answer rests on most.
        timings_ms: milliseconds by stage (`search`, `tokenize`, `encode`, `decode`, `evidence`, `total`).
        notes: what the person should know (a question that was cut, nothing found).
        alternatives: further answers, the best first, where several were asked for; texts may repeat.
        verbatim: the answer stands in a passage, or in a title.
        guess: the answer, withheld or not; by default the text.
        confidence: probability that the guess is right, by the reader's calibration; without one, the
            probability that the reader gives to its own answer.
        signals: what confidence was computed from (`fidkit.calibration.SIGNALS`).
        cut: the reader had written all tokens that it may (`Decoding.max_tokens`) before it came to an end.
    """

    text: str
    score: float
    evidence: tuple[Evidence, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    verbatim: bool = False
    guess: str = ""
    confidence: float = 0.0
    signals: dict[str, float] = field(default_factory=dict)
    cut: bool = False

    def __post_init__(self) -> None:
        if not self.guess:
            object.__setattr__(self, "guess", self.text)

    def to_json(self, question: str, reader: str) -> dict[str, Any]:
        """What the command line and the server give: null where there is no answer, or none was given."""
        record: dict[str, Any] = {
            "question": question,
            "answer": self.text or None,
            "guess": self.guess or None,
            "confidence": self.confidence,
            "score": self.score,
            "verbatim": self.verbatim,
            "evidence": [evidence.to_json() for evidence in self.evidence],
            "timings_ms": {stage: round(ms, 3) for stage, ms in self.timings_ms.items()},
            "reader": reader,
            "notes": list(self.notes),
        }
        if self.alternatives:
            record["alternatives"] = [alternative.to_json() for alternative in self.alternatives]
        return record


class Progress(Protocol):
    """What a long job reports to."""

    def advance(self, n: int = 1) -> None:
        """`n` more units are done."""

    def describe(self, text: str) -> None:
        """Say what is being done now, or how it goes."""
