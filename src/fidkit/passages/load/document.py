"""A document as it was read from a file: one string, and where each stretch of it came from.

Nothing changes the text once offsets into it exist: blocks, places, boxes, passages and evidence all count
its characters. What is added for a reader's sake (the name of a column in front of a cell, say) is added by
whoever reads the file, before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

PlaceKind = Literal["page", "slide", "sheet", "row", "chapter", "heading", "part", "cell"]
BlockKind = Literal["heading", "paragraph", "item", "row", "code", "repeated"]


WITHOUT_TEXT = ("has no text; it may be a picture", "have no text; they may be pictures")
"""How notes end of a page that has no text, and of several: those of a scan, say."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the characters `start` to `end` of a document came from.

    Places may lie in one another, as a page does in a chapter.

    Attributes:
        start, end: characters of the document's text.
        kind: what it is: the page of a PDF, a slide, a sheet of a workbook and a row of it, a chapter of a
            book, a heading with what stands under it, a part of a mail, a cell of a notebook.
        label: its number, counted from 1, or its name, as a person would say it: `3`, `Sales`, `Chapter 2`.
    """

    start: int
    end: int
    kind: PlaceKind
    label: str


@dataclass(frozen=True, slots=True)
class Box:
    """Where some characters, a word as a rule, stand on a page.

    Attributes:
        start, end: characters of the document's text.
        page: counted from 1.
        left, top, right, bottom: in points (1/72 inch) from the upper left corner of the page as it is shown.
    """

    start: int
    end: int
    page: int
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a document that belongs together; passages end where a block does, if they can.

    Blocks are in order and don't overlap. Between them is nothing but white space.

    Attributes:
        start, end: characters of the document's text.
        kind: a heading, a paragraph, an item of a list, a row of a table (which names its columns), code, or
            what a page repeats (headers, footers, page numbers), which no passage has.
        level: of a heading, 1 is the highest.
    """

    start: int
    end: int
    kind: BlockKind = "paragraph"
    level: int = 1


@dataclass(frozen=True, slots=True)
class Document:
    """A document.

    Attributes:
        title: of the document itself; empty where it has none, and its name has to do.
        text: all of it.
        blocks: in order.
        places, boxes: by `start`.
        member: of a file that holds several documents (an archive, a mail with attachments), which one it is;
            empty for the file's own. May have slashes.
        facts: what the file says of itself: `author`, `date` (ISO 8601), `language`, `from`, `to`, as far as
            known.
        notes: what a person has to know, each a sentence without a full stop: `page 4 has no text; it may be
            a picture`.
    """

    title: str
    text: str
    blocks: tuple[Block, ...] = ()
    places: tuple[Place, ...] = ()
    boxes: tuple[Box, ...] = ()
    member: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Writer:
    """Puts a document together, piece by piece, so that offsets are right from the start."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._open: list[tuple[int, PlaceKind, str]] = []
        self.blocks: list[Block] = []
        self.places: list[Place] = []
        self.boxes: list[Box] = []

    def __len__(self) -> int:
        """Characters so far: where the next one will stand."""
        return self._length

    def write(self, text: str) -> tuple[int, int]:
        """Add some text as it is; says where it stands."""
        start = self._length
        self._parts.append(text)
        self._length += len(text)
        return start, self._length

    def block(self, text: str, kind: BlockKind = "paragraph", level: int = 1) -> None:
        """Add a block and an empty line, or behind rows and items a line end; nothing for white space."""
        if not text.strip():
            return
        start = self._length + len(text) - len(text.lstrip())
        end = self._length + len(text.rstrip())
        self.write(text)
        self.write("\n" if kind in ("row", "item") else "\n\n")
        self.blocks.append(Block(start, end, kind, level))

    def begin(self, kind: PlaceKind, label: str) -> None:
        """A place begins here. One may lie in another."""
        self._open.append((self._length, kind, label))

    def end(self) -> None:
        """The place that began last ends here; one without text is forgotten."""
        start, kind, label = self._open.pop()
        if self._length > start:
            self.places.append(Place(start, self._length, kind, label))

    def document(
        self,
        title: str = "",
        member: str = "",
        facts: dict[str, str] | None = None,
        notes: tuple[str, ...] = (),
    ) -> Document:
        """All of it. Places still open end at the end."""
        while self._open:
            self.end()
        places = sorted(self.places, key=lambda place: (place.start, -place.end))
        return Document(
            title, "".join(self._parts), tuple(self.blocks), tuple(places), tuple(self.boxes), member,
            facts or {}, notes,
        )  # fmt: skip
