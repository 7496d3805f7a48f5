"""What pages repeat: headers, footers and page numbers, found by what stands at the same place of many."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from fidkit.passages.load.glyphs import Page
from fidkit.passages.load.layout import Line, Word, lines_of

# The upper and the lower edge of a page, as proportions of its height.
_EDGE = 0.12
_PAGES = 3
"""So many pages have to have it, out of so few in succession:"""
_WITHIN = 6
_MOST_NUMBERS = 4
_NUMBER = re.compile(r"\d{1,6}")

_Key = tuple[object, ...]


def repeated(pages: Sequence[Page], body: float) -> list[set[int]]:
    """The words of each page that it shares with others, by their place in the order of drawing.

    A stretch of an edge is repeated if it stands on three of six pages in succession (or on all of two), at
    the same height, with numbers that stay the same or count the pages. Large letters, as titles of slides
    have them, must be on half of all pages.

    Args:
        pages: in order.
        body: size of the font that most text is in.
    """
    found: list[set[int]] = [set() for _ in pages]
    stands: dict[_Key, list[tuple[int, list[Word]]]] = defaultdict(list)
    for number, page in enumerate(pages):
        for line in _edges(page):
            for piece in _parted(line):
                large = Line(piece).size > 1.2 * body
                for key, counts in _keys(piece, number):
                    # What stands beside a page number changes with the chapter.
                    stands[(*key, large)].append((number, line.words if counts and not large else piece))
    fewest = min(_PAGES, max(2, len(pages)))
    for key, places in stands.items():
        numbers = sorted({number for number, _ in places})
        often = len(numbers) >= fewest and any(
            numbers[at + fewest - 1] - numbers[at] < _WITHIN for at in range(len(numbers) - fewest + 1)
        )
        if often and (not key[-1] or 2 * len(numbers) >= len(pages)):
            for number, words in places:
                found[number].update(word.at for word in words)
    return found


def _edges(page: Page) -> list[Line]:
    """Lines at the edges of a page; of what isn't upright, everywhere."""
    edge = _EDGE * page.height
    upright = [
        word
        for word in page.words
        if not word.turn and (word.middle < edge or word.middle > page.height - edge)
    ]
    turned = {word.turn for word in page.words if word.turn}
    groups = [upright, *([word for word in page.words if word.turn == turn] for turn in sorted(turned))]
    return [line for words in groups for line in lines_of(words)]


def _parted(line: Line) -> list[list[Word]]:
    """Its words, parted by wide gaps: a page number stands apart from a title."""
    ends = {start for start, _ in line.gaps()}
    pieces: list[list[Word]] = [[]]
    for word in sorted(line.words, key=lambda word: word.left):
        pieces[-1].append(word)
        if word.right in ends:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _keys(piece: list[Word], number: int) -> Iterator[tuple[_Key, bool]]:
    """What a piece may share with another page's: height, text, and each number or how it counts pages.

    With each, whether a number counts pages there.
    """
    text = " ".join(word.text for word in piece)
    figures = [int(figure) for figure in _NUMBER.findall(text)]
    place = piece[0].turn, round(piece[0].top / 3)
    if len(figures) > _MOST_NUMBERS:
        yield (place, text), False
        return
    masked = _NUMBER.sub("#", text)
    for way in itertools.product(*(((figure, False), (figure - number, True)) for figure in figures)):
        yield (place, masked, way), any(counts for _, counts in way)
