"""Records that travel between the parts. No tensors here: importing this module is cheap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that a search found. `score` is the engine's own (BM25: higher is better, unbounded)."""

    passage: Passage
    score: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """A passage that was read for an answer; `score` is its share of the answer (all shares sum to 1).

    A reader that reranks has shares by its own ranking, any other by the decoder's attention.
    """

    passage: Passage
    score: float

    def to_json(self) -> dict[str, Any]:
        p = self.passage
        return {"id": p.id, "title": p.title, "text": p.text, "score": self.score, "source": p.source}


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
        text: the answer; empty when the reader ended at once.
        score: mean log-probability of the answer's tokens, end of sequence included (0 is certain); with
            another length penalty than 1, their sum over their number to that power.
        evidence: the passages read, the one with the largest share first.
        timings_ms: milliseconds by stage (`search`, `tokenize`, `encode`, `decode`, `evidence`, `total`).
        notes: what the person should know (a question that was cut, nothing found).
        alternatives: further answers, the best first, where several were asked for; texts may repeat.
    """

    text: str
    score: float
    evidence: tuple[Evidence, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
