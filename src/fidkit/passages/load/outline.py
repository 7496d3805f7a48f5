"""The parts of a text that stays as it is: blocks and headings over the characters of the file itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from fidkit.passages.load.document import Block, BlockKind, Document, Place

BYTE_ORDER_MARK = "\ufeff"


def lines_of(text: str) -> Iterator[tuple[int, int]]:
    """First and last character of every line, its end left out."""
    at = 0
    for line in text.splitlines(keepends=True):
        yield at, at + len(line.rstrip("\r\n"))
        at += len(line)


def stem(name: str) -> str:
    """What a file is called without its ending, and without that of its packing."""
    path = PurePath(name)
    return path.with_suffix("").stem if path.suffix.lower() == ".gz" else path.stem


class Outline:
    """Takes down the blocks of a text, in order, and what its headings hold."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.blocks: list[Block] = []
        self._headings: list[tuple[int, int, str]] = []

    def block(self, start: int, end: int, kind: BlockKind = "paragraph", level: int = 1) -> None:
        """Add `text[start:end]` without the white space around it; nothing where there is nothing else."""
        part = self.text[start:end].rstrip()
        mark = BYTE_ORDER_MARK if start == 0 else ""
        end = start + len(part)
        start = end - len(part.lstrip().removeprefix(mark).lstrip())
        if start < end:
            self.blocks.append(Block(start, end, kind, level))

    def heading(self, start: int, end: int, label: str, level: int) -> None:
        """Add a heading, which holds what stands behind it up to the next of its level or above."""
        self.block(start, end, "heading", level)
        self.begin(start, label, level)

    def begin(self, start: int, label: str, level: int = 1) -> None:
        """The same without a line of its own: a definition in code, say."""
        self._headings.append((start, level, label))

    @property
    def first_heading(self) -> str:
        """The name of the heading that comes first; empty where there is none."""
        return self._headings[0][2] if self._headings else ""

    def document(self, title: str, facts: dict[str, str] | None = None) -> Document:
        """All of it."""
        return Document(title, self.text, tuple(self.blocks), self._places(), facts=facts or {})

    def _places(self) -> tuple[Place, ...]:
        places: list[Place] = []
        open_: list[tuple[int, int, str]] = []
        for start, level, label in [*self._headings, (len(self.text), 0, "")]:
            while open_ and open_[-1][1] >= level:
                begin, _, name = open_.pop()
                places.append(Place(begin, start, "heading", name))
            open_.append((start, level, label))
        return tuple(sorted(places, key=lambda place: (place.start, -place.end)))
