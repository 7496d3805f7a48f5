"""Documents as plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import BinaryIO

from fidkit.passages.load.charset import decode
from fidkit.passages.load.document import Document
from fidkit.passages.load.headings import RULE, bare_heading, heading
from fidkit.passages.load.outline import Outline, lines_of

_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")
_FEWEST = 2
"""One line that stands alone may be anything; several are an outline."""

Span = tuple[int, int]


def read_text(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A text as it is, with paragraphs between blank lines; line ends are not translated.

    Places: headings, as far as they look so (`fidkit.passages.load.headings`). What a text begins with isn't
    one.

    Raises:
        UnreadableFile: binary, or in an encoding that can't be told.
    """
    text = decode(stream.read(), name)
    outline, paragraphs = Outline(text), list(_paragraphs(text))
    headings = _headings(text, paragraphs)
    for start, end in paragraphs:
        if start in headings:
            line_end, label = headings[start]
            outline.heading(start, line_end, label, level=1)
            start = line_end
        outline.block(start, end)
    yield outline.document("")


def _paragraphs(text: str) -> Iterator[Span]:
    """Where paragraphs begin and end, white space at their ends included."""
    start = 0
    for blank in _BLANK_LINES.finditer(text):
        yield start, blank.start()
        start = blank.end()
    yield start, len(text)


def _headings(text: str, paragraphs: Sequence[Span]) -> dict[int, tuple[int, str]]:
    """By the start of a paragraph: where its heading ends, and what it says."""
    found, alone = dict[int, tuple[int, str]](), dict[int, tuple[int, str]]()
    pairs = pairwise([*paragraphs, (len(text), len(text))])
    for (start, end), (next_start, next_end) in islice(pairs, 1, None):
        lines = [(start + a, start + b) for a, b in islice(lines_of(text[start:end]), 2)]
        line, below = ([text[a:b] for a, b in lines] + ["", ""])[:2]
        if label := heading(line, below):
            found[start] = lines[1][1] if RULE.fullmatch(below) else lines[0][1], label
        elif not below and (label := bare_heading(line, text[next_start:next_end])):
            alone[start] = lines[0][1], label
    return found | alone if len(alone) >= _FEWEST else found
