"""What the documents of a mixed folder say: prose of books, and invented facts, each in one place."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_MARKS = re.compile(r"[*_#|<>$\\\[\]^~`@{}=+]")
"""What would be a mark in Markdown, reStructuredText or HTML."""
_SECTIONS = 4
_BEGINNINGS = "Bar Cor Dren El Fal Gor Hul Ist Jor Kel Lun Mar Nor Or Pel Quil Ros Sel Tam Ul Ver Wes Yar Zan"
_ENDINGS = "adel bury crest dale evar ford gate holm ivar key low mere nock ost pool quay rith stow thorn vik"
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_FORMS = (
    ("Who keeps the lighthouse of {a}?", "The lighthouse of {a} is kept by {p}.", "{p}"),
    ("In which year was the bridge of {a} opened?", "The bridge of {a} was opened in {y}.", "{y}"),
    ("How many barrels does the cellar of {a} hold?", "The cellar of {a} holds {n} barrels.", "{n}"),
    ("Who painted the altar of {a}?", "The altar of {a} was painted by {p}.", "{p}"),
    ("What does the ferry to {a} cost?", "The ferry to {a} costs {n} crowns.", "{n} crowns"),
    ("Where are the bells of {a} made?", "The bells of {a} are made in {b}.", "{b}"),
    ("How deep is the well of {a}?", "The well of {a} is {n} metres deep.", "{n} metres"),
    ("Who wrote the charter of {a}?", "The charter of {a} was written by {p} in {y}.", "{p}"),
    ("On which day is the market of {a} held?", "The market of {a} is held on a {d}.", "{d}"),
    ("What is the ship of {a} called?", "The ship of {a} is called {b}.", "{b}"),
)
"""Questions, sentences and answers."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence that stands in one place, and what it answers."""

    question: str
    sentence: str
    answer: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Some prose: a title, and sections, each with its heading and paragraphs."""

    title: str
    sections: tuple[tuple[str, tuple[str, ...]], ...]

    def with_fact(self, fact: Fact, section: int, apart: bool = False) -> Piece:
        """The same with a sentence in the middle of a section, in a paragraph or as one of its own."""
        heading, paragraphs = self.sections[section]
        at = len(paragraphs) // 2
        if apart:
            changed = (*paragraphs[:at], fact.sentence, *paragraphs[at:])
        else:
            first, stop, rest = paragraphs[at].partition(". ")
            new = f"{first}. {fact.sentence} {rest}" if stop else f"{fact.sentence} {first}"
            changed = (*paragraphs[:at], new, *paragraphs[at + 1 :])
        sections = (*self.sections[:section], (heading, changed), *self.sections[section + 1 :])
        return replace(self, sections=sections)

    def markdown(self) -> str:
        """As Markdown, the title as the first heading."""
        parts = [f"# {self.title}"]
        for heading, paragraphs in self.sections:
            parts += [f"## {heading}", *paragraphs]
        return "\n\n".join(parts) + "\n"

    def text(self) -> str:
        """Without marks."""
        parts = [self.title]
        for heading, paragraphs in self.sections:
            parts += [heading, *paragraphs]
        return "\n\n".join(parts) + "\n"

    def sentences(self) -> list[str]:
        """Of moderate length, in order."""
        found = [s for _, paragraphs in self.sections for p in paragraphs for s in re.split(r"(?<=\.) ", p)]
        return [sentence for sentence in found if 20 < len(sentence) < 160] or found[:1]


def facts(count: int, seed: int) -> list[Fact]:
    """Invented facts, each about a place of its own."""
    chance = random.Random(seed)
    names = [begin + end for begin in _BEGINNINGS.split() for end in _ENDINGS.split()]
    chance.shuffle(names)
    made = []
    for number in range(count):
        a, b, first, last = (names.pop() for _ in range(4))
        values = {"a": a, "b": b, "p": f"{first} {last}", "d": chance.choice(_DAYS)}
        values |= {"y": str(chance.randrange(1610, 1990)), "n": str(chance.randrange(23, 980))}
        made.append(Fact(*(part.format(**values) for part in _FORMS[number % len(_FORMS)])))
    return made


def pieces(data: Path, seed: int) -> Iterator[Piece]:
    """Prose of DATA/pretrain, in an order by the seed."""
    with gzip.open(data / "pretrain" / "books-00.jsonl.gz", "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    random.Random(seed).shuffle(records)
    for record in records:
        paragraphs = [" ".join(_MARKS.sub("", p).split()) for p in record["text"].split("\n")]
        paragraphs = [paragraph for paragraph in paragraphs if len(paragraph.split()) > 8]
        if len(paragraphs) >= _SECTIONS:
            number = record["id"].rpartition("#")[2]
            yield Piece(f"{_MARKS.sub('', record['title'])}, {number}", tuple(_sections(paragraphs)))


def _sections(paragraphs: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Paragraphs, shared out evenly; a section is called by its first words."""
    for number in range(_SECTIONS):
        low, high = (len(paragraphs) * n // _SECTIONS for n in (number, number + 1))
        words = re.findall(r"[A-Za-z]+", paragraphs[low])[:5]
        yield f"{number + 1} {' '.join(words)}", tuple(paragraphs[low:high])
