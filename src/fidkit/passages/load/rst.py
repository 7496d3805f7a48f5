"""Documents as reStructuredText."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from fidkit.passages.load.charset import decode
from fidkit.passages.load.document import Document
from fidkit.passages.load.outline import Outline, lines_of

_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1+\s*$")
_ITEM = re.compile(r"\s*(?:[-*+•]|(?:\d{1,9}|#|[a-zA-Z])[.)])\s")
_CODE = re.compile(r"\s*\.\. (?:code-block|code|sourcecode|highlight|literalinclude|math|productionlist)::")
_FIELD = re.compile(r":(author|date|language|lang):\s*(.+)", re.IGNORECASE)
_FACTS = {"author": "author", "date": "date", "lang": "language", "language": "language"}
_GRID = re.compile(r"\s*\+[-=+]+\+\s*$")
_COLUMNS = re.compile(r"\s*=+(?:\s+=+)+\s*$")


def read_rst(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A text in reStructuredText as it is: headings, paragraphs, items, tables by row, literal blocks.

    The title is the first heading.

    Raises:
        UnreadableFile: binary, or in an encoding that can't be told.
    """
    text = decode(stream.read(), name)
    reading = _Reading(text)
    reading.read()
    yield reading.outline.document(reading.outline.first_heading, reading.facts)


class _Reading:
    def __init__(self, text: str) -> None:
        self.outline = Outline(text)
        self.facts: dict[str, str] = {}
        self._text = text
        self._spans = list(lines_of(text))
        self._lines = [text[start:end] for start, end in self._spans]
        self._styles: list[str] = []

    def read(self) -> None:
        """Goes from one block to the next."""
        at = 0
        while at < len(self._lines):
            at = at + 1 if not self._lines[at].strip() else self._one(at)

    def _one(self, at: int) -> int:
        """Takes down the block that begins with a line; the number of the line behind it."""
        heading = self._heading(at)
        if heading:
            return heading
        line = self._lines[at]
        if _GRID.match(line):
            return self._grid(at)
        if _COLUMNS.match(line):
            return self._columns(at)
        end = self._paragraph_end(at)
        self._block(at, end, "item" if _ITEM.match(line) else "paragraph")
        if field := _FIELD.match(line):
            self.facts.setdefault(_FACTS[field.group(1).lower()], field.group(2).strip())
        if _CODE.match(line) or self._lines[end - 1].rstrip().endswith("::"):
            return self._literal(end, _indent(line))
        return end

    def _heading(self, at: int) -> int:
        """Behind the heading that begins with this line; 0 where none does."""
        over = bool(_ADORNMENT.match(self._lines[at]))
        first = at + over
        if first + 1 >= len(self._lines):
            return 0
        text, under = self._lines[first].rstrip(), self._lines[first + 1].rstrip()
        if not text.strip() or not _ADORNMENT.match(under) or _ADORNMENT.match(text):
            return 0
        if (over and self._lines[at].rstrip() != under) or (not over and text[0].isspace()):
            return 0
        # Shorter ones are allowed where they can't be anything else.
        if len(under) < min(len(text.strip()), 4) or _is_table(under):
            return 0
        style = under[0] * (1 + over)
        if style not in self._styles:
            self._styles.append(style)
        level = self._styles.index(style) + 1
        start, end = self._spans[at][0], self._spans[first + 1][1]
        self.outline.heading(start, end, text.lstrip("\ufeff").strip(" *`"), level)
        return first + 2

    def _paragraph_end(self, at: int) -> int:
        """Behind the last line of a paragraph: a blank one, a further item or a heading ends it."""
        end = at + 1
        while end < len(self._lines) and self._lines[end].strip():
            if _ITEM.match(self._lines[end]) and _ITEM.match(self._lines[at]):
                break
            end += 1
        return end

    def _literal(self, at: int, indent: int) -> int:
        """The indented lines behind a paragraph, as code."""
        begin = self._after_blank(at)
        end, last = begin, begin
        while end < len(self._lines) and (not self._lines[end].strip() or _indent(self._lines[end]) > indent):
            last = end + 1 if self._lines[end].strip() else last
            end += 1
        if last > begin:
            self._block(begin, last, "code")
        return max(last, at)

    def _grid(self, at: int) -> int:
        """A table drawn with lines: what stands between two of them is a row."""
        end = at
        while end < len(self._lines) and self._lines[end].lstrip().startswith(("+", "|")):
            end += 1
        first = at
        for number in range(at + 1, end):
            if _GRID.match(self._lines[number]) and number > first:
                self._block(first, number + 1, "row")
                first = number + 1
        if first < end:
            self._block(first, end, "row")
        return end

    def _columns(self, at: int) -> int:
        """A table under marks of columns, a row a line; what stands above the second marks names them."""
        end, marks = at + 1, 1
        while end < len(self._lines) and (self._lines[end].strip() or self._goes_on(end)):
            marks += bool(_COLUMNS.match(self._lines[end]))
            end += 1
            if marks >= 2 and (end >= len(self._lines) or not self._lines[end].strip()):
                break
        rules = [n for n in range(at, end) if _COLUMNS.match(self._lines[n])]
        head = rules[1] + 1 if len(rules) > 2 else at + 1
        first = at
        for number in range(head, end):
            if number in rules or not self._lines[number].strip():
                continue
            last = number + 2 if number + 1 == end - 1 and number + 1 in rules else number + 1
            self._block(first, last, "row")
            first = last
        if first < end:
            self._block(first, end, "row")
        return end

    def _goes_on(self, at: int) -> bool:
        """Whether a blank line within a table has more of it below."""
        below = self._after_blank(at)
        return below < len(self._lines) and below - at < 2 and bool(_COLUMNS.match(self._lines[below]))

    def _after_blank(self, at: int) -> int:
        while at < len(self._lines) and not self._lines[at].strip():
            at += 1
        return at

    def _block(self, first: int, end: int, kind: str) -> None:
        self.outline.block(self._spans[first][0], self._spans[end - 1][1], kind)  # type: ignore[arg-type]


def _is_table(line: str) -> bool:
    return bool(_GRID.match(line) or _COLUMNS.match(line))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
