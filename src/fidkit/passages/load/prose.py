"""What documents of all kinds are written with: clean strings, and headings with what stands under them."""

from __future__ import annotations

import re
from dataclasses import replace

from fidkit.passages.load.document import Document, PlaceKind, Writer

_SURROGATE = re.compile("[\ud800-\udfff]")
# NUL ends a string in many a database; the others are the control characters that no text has.
_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f]")
LONGEST_LABEL = 200


def sound(text: str) -> str:
    """The text with halves of characters joined, and what is no character replaced by U+FFFD or a space."""
    if _SURROGATE.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _CONTROL.sub(" ", text)


def flat(text: str) -> str:
    """The text on one line, with single spaces."""
    return " ".join(text.split())


class Sections:
    """Places that lie in one another by their level: headings with what stands under them, or chapters."""

    def __init__(self, writer: Writer, kind: PlaceKind = "heading") -> None:
        self._writer, self._kind = writer, kind
        self._levels: list[int] = []

    def begin(self, label: str, level: int) -> None:
        """One begins here; those of its level and below end."""
        while self._levels and self._levels[-1] >= level:
            self._levels.pop()
            self._writer.end()
        self._levels.append(level)
        self._writer.begin(self._kind, flat(label)[:LONGEST_LABEL])

    def heading(self, text: str, level: int) -> None:
        """A heading, and the place that begins with it."""
        if text.strip():
            self.begin(text, level)
            self._writer.block(flat(text), "heading", level)

    def end(self) -> None:
        """All that are open end here."""
        while self._levels:
            self._levels.pop()
            self._writer.end()


def titled(document: Document) -> Document:
    """The document, with its first heading as title where it has none of its own."""
    first = next((block for block in document.blocks if block.kind == "heading"), None)
    if document.title or first is None:
        return document
    return replace(document, title=flat(document.text[first.start : first.end]))
