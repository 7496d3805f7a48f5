"""Documents as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from fidkit.passages.load.charset import decode
from fidkit.passages.load.document import BlockKind, Document
from fidkit.passages.load.outline import BYTE_ORDER_MARK, Outline, lines_of

_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_COMMENT = re.compile(r" {0,3}<!--")
_ITEM = re.compile(r"[ \t]*(?:[-*+•]|\d{1,9}[.)])[ \t]")
_ROW = re.compile(r"[ \t]*\|.*\|[ \t]*$")
_RULE_OF_TABLE = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-*:?[ \t]*)*\|?[ \t]*$")
# Front matter: YAML or TOML above the text, which site generators and note-taking programs write.
_FRONT_MATTER_ENDS = {"---": ("---", "..."), "+++": ("+++",)}
_FACT = re.compile(
    r"(title|author|date|lang|language)[ \t]*[:=][ \t]*(\"[^\"]*\"|'[^']*'|[^#\n]*)", re.IGNORECASE
)
_FACTS = {"author": "author", "date": "date", "lang": "language", "language": "language"}
# What begins a YAML value that goes on in further lines, or isn't text.
_NO_PLAIN_VALUE = "|>[{&*!"


def read_markdown(stream: BinaryIO, name: str) -> Iterator[Document]:
    """Markdown as it is: its headings, paragraphs, items, tables by row, and code.

    The title is that of the front matter, else the first heading.

    Raises:
        UnreadableFile: binary, or in an encoding that can't be told.
    """
    yield _Reading(decode(stream.read(), name)).document()


class _Reading:
    """Goes through the lines. What isn't finished yet lies between `_begun` and the line at hand."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._outline = Outline(text)
        self._begun: int | None = None
        self._kind: BlockKind = "paragraph"
        self._until = ""
        self._lines = 0

    def document(self) -> Document:
        lines = list(lines_of(self._text))
        above, facts = self._front_matter(lines)
        for start, end in lines[above:]:
            self._line(start, end)
        self._finish(len(self._text))
        title = facts.pop("title", "") or self._outline.first_heading
        return self._outline.document(title, facts)

    def _front_matter(self, lines: list[tuple[int, int]]) -> tuple[int, dict[str, str]]:
        """How many lines it has, those around it included, and what it says."""
        texts = [self._text[start:end] for start, end in lines]
        first = texts[0].removeprefix(BYTE_ORDER_MARK).rstrip() if texts else ""
        ends = _FRONT_MATTER_ENDS.get(first, ())
        last = next((at for at, line in enumerate(texts[1:], start=1) if line.rstrip() in ends), None)
        if last is None:
            return 0, {}
        self._outline.block(0, lines[last][1], "code")
        facts: dict[str, str] = {}
        for line in texts[:last]:
            match = _FACT.match(line)
            value = match.group(2).strip().strip("'\"") if match else ""
            if match and value and value[0] not in _NO_PLAIN_VALUE:
                field = match.group(1).lower()
                facts.setdefault(_FACTS.get(field, field), value)
        return last + 1, facts

    def _line(self, start: int, end: int) -> None:
        line = self._text[start:end]
        if start == 0:
            line = line.removeprefix(BYTE_ORDER_MARK)
        if self._until:
            if _closes(line, self._until):
                self._until = ""
                self._finish(end)
        elif not line.strip():
            self._finish(start)
        elif heading := _HEADING.match(line):
            self._finish(start)
            self._heading(start, end, heading.group(2), len(heading.group(1)))
        elif self._lines == 1 and self._kind == "paragraph" and (under := _UNDERLINE.match(line)):
            self._underlined(end, 1 if under.group(1)[0] == "=" else 2)
        elif self._kind == "row" and self._lines == 1 and _RULE_OF_TABLE.match(line):
            self._lines += 1  # it belongs to the names of the columns
        else:
            self._goes_on(start, line)

    def _goes_on(self, start: int, line: str) -> None:
        kind, until = self._opened(line)
        if until or kind in ("row", "item") or self._kind == "row" or self._begun is None:
            self._finish(start)
            self._begun, self._kind = start, kind
        self._until = until
        self._lines += 1
        if until and kind == "paragraph" and until in line:
            self._until = ""

    def _opened(self, line: str) -> tuple[BlockKind, str]:
        """What begins with a line, where one begins; and what ends it, if a mark does."""
        if mark := _FENCE.match(line):
            return "code", mark.group(1)
        if _COMMENT.match(line):
            return "paragraph", "-->"
        return ("item" if _ITEM.match(line) else "row" if _ROW.match(line) else "paragraph"), ""

    def _heading(self, start: int, end: int, text: str, level: int) -> None:
        label = text.strip("*_` ")
        if label:
            self._outline.heading(start, end, label, level)
        else:
            self._outline.block(start, end)

    def _underlined(self, end: int, level: int) -> None:
        assert self._begun is not None
        start = self._begun
        label = self._text[start:end].lstrip(BYTE_ORDER_MARK).splitlines()[0]
        self._begun, self._lines = None, 0
        self._heading(start, end, label.strip(), level)

    def _finish(self, end: int) -> None:
        if self._begun is not None:
            self._outline.block(self._begun, end, self._kind)
        self._begun, self._lines, self._kind = None, 0, "paragraph"


def _closes(line: str, until: str) -> bool:
    if until == "-->":
        return until in line
    mark = _FENCE.match(line)
    return mark is not None and mark.group(1).startswith(until) and not line[mark.end() :].strip()
