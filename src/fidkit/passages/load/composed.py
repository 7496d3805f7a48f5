"""Pages to a document: paragraphs as text, made once, with the rectangle of every word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from fidkit.passages.load.document import BlockKind, Box, Writer
from fidkit.passages.load.glyphs import Page, is_unspaced
from fidkit.passages.load.layout import HYPHEN, HYPHENS, Paragraph, Word, in_order, lines_of, paragraphs

_HEADING = 1.15
"""A heading's letters are larger than those of most text by this factor at least."""
_LONGEST_HEADING = 200
_HEADING_LINES = 4
_LEVELS = 6
_END = re.compile(r"[^\W\d_]+(?=.$)")
_BEGIN = re.compile(r"[^\W\d_]+")
_APART = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


class Style:
    """What all pages have in common: sizes of letters, and the words that occur, to know hyphens by.

    Attributes:
        body: the size that most text is in.
    """

    def __init__(self, pages: Iterable[Page]) -> None:
        sizes: Counter[float] = Counter()
        self.words: set[str] = set()
        for page in pages:
            for word in page.words:
                sizes[round(word.size, 1)] += len(word.text)
                if not word.text.endswith(HYPHENS):
                    self.words.update(_APART.findall(word.text.lower()))
        half = sum(sizes.values()) / 2
        self.body = 0.0
        for self.body in sorted(sizes):
            half -= sizes[self.body]
            if half <= 0:
                break
        found = sorted({round(size) for size in sizes}, reverse=True)
        self._levels = {size: min(level, _LEVELS) for level, size in enumerate(found, 1)}

    def level(self, paragraph: Paragraph) -> int:
        """Of a heading, from 1; 0 for what is none."""
        size = min(line.size for line in paragraph.lines)
        words = [word for line in paragraph.lines for word in line.words]
        short = (
            len(paragraph.lines) <= _HEADING_LINES
            and sum(len(word.text) for word in words) < _LONGEST_HEADING
        )
        named = any(letter.isalpha() for word in words for letter in word.text)
        return self._levels.get(round(size), 0) if short and named and size > _HEADING * self.body else 0

    def keeps_hyphen(self, before: str, after: str) -> bool:
        """Whether a word parted by a line keeps its hyphen (`well-known`), by the document's other words."""
        end, begin = _END.search(before), _BEGIN.match(after)
        if not end or not begin or not begin.group()[0].islower():
            return True
        first, second = end.group().lower(), begin.group().lower()
        if first + second in self.words:
            return False
        return f"{first}-{second}" in self.words or {first, second} <= self.words


def write_page(writer: Writer, page: Page, number: int, repeated: set[int], style: Style) -> None:
    """Add a page: what stands at its top on other pages too, its text, and what its bottom repeats.

    Args:
        writer: of the document; gets blocks, boxes and a place for the page.
        page: as read.
        number: of the page, counted from 1.
        repeated: words of the page that other pages have too, by their place in the order of drawing.
        style: of the document.
    """
    writer.begin("page", str(number))
    rest = [word for word in page.words if word.at not in repeated]
    edges = [word for word in page.words if word.at in repeated]
    middle = page.height / 2
    _write_edge(writer, [word for word in edges if sum(word.box[1::2]) / 2 < middle], number)
    for turn in sorted({word.turn for word in rest}):
        parts = list(in_order([word for word in rest if word.turn == turn]))
        for paragraph in paragraphs(parts, style.body):
            level = style.level(paragraph)
            kind: BlockKind = "heading" if level else "item" if paragraph.item else "paragraph"
            _write(writer, paragraph, number, style, kind, level or 1)
    _write_edge(writer, [word for word in edges if sum(word.box[1::2]) / 2 >= middle], number)
    writer.end()


def _write_edge(writer: Writer, words: Sequence[Word], number: int) -> None:
    for turn in sorted({word.turn for word in words}):
        lines = lines_of([word for word in words if word.turn == turn])
        _write(writer, Paragraph(lines, ["\n"] * (len(lines) - 1)), number, None, "repeated", 1)


def _write(
    writer: Writer, paragraph: Paragraph, number: int, style: Style | None, kind: BlockKind, level: int
) -> None:
    pieces: list[str] = []
    begin = at = len(writer)
    boxes: list[Box] = []

    def put(text: str, word: Word | None = None) -> None:
        nonlocal at
        pieces.append(text)
        if word is not None and text:
            boxes.append(Box(at, at + len(text), number, *word.box))
        at += len(text)

    borders = paragraph.borders()
    ends = [*zip(paragraph.breaks, paragraph.lines[1:], strict=True), None]
    for line, end in zip(paragraph.lines, ends, strict=True):
        for word, after in pairwise([*line.words, None]):
            assert word is not None
            text, between = word.text, ""
            if after is not None:
                between = _between(word, after, borders)
            elif end is not None:
                text, between = _joined(word, end[1].words[0], end[0], style)
            put(text.replace(HYPHEN, "-"), word)
            put(between)
    writer.block("".join(pieces), kind, level)
    if len(writer) > begin:
        writer.boxes += boxes


def _between(word: Word, after: Word, borders: Sequence[tuple[float, float]]) -> str:
    """What stands between two words of a line; a tab between cells."""
    if after.glued and after.at == word.at + 1:
        return ""
    apart = any(word.right <= start + 0.1 and end <= after.left + 0.1 for start, end in borders)
    return "\t" if apart else " "


def _joined(word: Word, after: Word, end: str, style: Style | None) -> tuple[str, str]:
    """The last word of a line as it is written, and what stands between it and the next line."""
    if style is None or end != " ":
        return word.text, end
    if word.text.endswith(HYPHENS) and len(word.text) > 1 and after.text[0].isalnum():
        return (word.text if style.keeps_hyphen(word.text, after.text) else word.text[:-1]), ""
    # A line of a script without spaces ends anywhere; what is glued has only the line's end between it.
    return word.text, "" if is_unspaced(ord(word.text[-1])) and is_unspaced(ord(after.text[0])) else end
