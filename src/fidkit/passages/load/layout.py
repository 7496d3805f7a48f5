"""The order in which a page is read: words in rectangles to columns, lines and paragraphs.

Distances are in points, from the upper left corner of the page; `y` grows downwards. Where pages come from
(PDF) is of no matter here.
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TypeAlias

import numpy as np

Rectangle: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(slots=True)
class Word:
    """A word on a page, or a character of a script without spaces.

    Attributes:
        text: without white space; a hyphen at the end of a line is `HYPHEN`.
        box: where it stands on the page as it is shown.
        left, top, right, bottom: the same with the page turned so that the word is upright.
        size: of its font, as shown.
        turn: quarters clockwise that it was turned by.
        glued: nothing stands between it and the word that was drawn before it.
        at: its place in the order of drawing.
    """

    text: str
    box: Rectangle
    left: float
    top: float
    right: float
    bottom: float
    size: float
    turn: int = 0
    glued: bool = False
    at: int = 0

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


HYPHEN = "\N{SOFT HYPHEN}"
HYPHENS = (HYPHEN, "-", "\N{HYPHEN}")
"""What a word ends with that may go on in the next line."""

# A gutter is at least so wide, in sizes of the font; a gap that parts the cells of a row is wider.
_GUTTER = 0.65
_CELLS = 1.4
# Gutters are looked for at most at so many places, and among at most so many words at once.
_PLACES = 600
_MOST_WORDS = 6000
_TRIALS = 12
# Both sides of a gutter have at least so many lines.
_FEWEST_LINES = 3
# In so many rows of a table, no strip between words is free by chance.
_ROWS = 4
# Lines of a column of prose are at least so long, in sizes of the font: about twenty letters.
_NARROW = 9
# Columns that were drawn one after the other change sides so seldom: a column, its neighbour, footnotes.
_FEW_CHANGES = 3
_DEEPEST = 40

_MARKER = re.compile(r"[•◦▪●○■□‣⁃·*–-]|\(?(?:\d{1,3}|[a-zA-Z])[.)]")  # noqa: RUF001
_ENDS = (".", "!", "?", ":", "…", "。", "！", "？", "।", "؟", "۔")  # noqa: RUF001
_RIGHT_TO_LEFT = re.compile(r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")


class Line:
    """Words that stand beside one another, in the order of reading."""

    def __init__(self, words: list[Word]) -> None:
        self.words = words
        self.left = min(word.left for word in words)
        self.right = max(word.right for word in words)
        self.top = min(word.top for word in words)
        self.bottom = max(word.bottom for word in words)
        self.size = median(word.size for word in words)

    def gaps(self) -> list[tuple[float, float]]:
        """From where to where nothing stands, between words further apart than in any text."""
        spaces = [(word.right, after.left) for word, after in pairwise(sorted(self.words, key=_left))]
        return [(start, end) for start, end in spaces if end - start > _CELLS * self.size]


def _left(word: Word) -> float:
    return word.left


@dataclass(slots=True)
class Paragraph:
    r"""Lines that belong together, with what stands between each of them and the next.

    Attributes:
        lines: in order.
        breaks: `" "` where a line was merely full, `"\n"` where it ends on purpose; one fewer than lines.
        item: it begins with a mark of a list.
        table: its lines are rows of cells.
    """

    lines: list[Line]
    breaks: list[str]
    item: bool = False
    table: bool = False

    def borders(self) -> list[tuple[float, float]]:
        """Strips that part the cells of a table: what no word of its rows reaches into."""
        if not self.table:
            return []
        words = sorted((word for line in self.lines for word in line.words), key=_left)
        strips = []
        end = words[0].right
        for word in words:
            if word.left - end > (0.75 if len(self.lines) >= _ROWS else _CELLS) * word.size:
                strips.append((end, word.left))
            end = max(end, word.right)
        return strips + [gap for line in self.lines for gap in line.gaps()]


def lines_of(words: Sequence[Word]) -> list[Line]:
    """Lines from top to bottom: words in whose height the middle of their neighbour is."""
    rows: list[list[Word]] = []
    first: Word | None = None
    for word in sorted(words, key=lambda word: word.middle):
        before = rows[-1][-1] if rows else None
        beside = (
            before is not None
            and first is not None
            and before.top < word.middle < before.bottom
            and word.top < before.middle < word.bottom
            and word.middle - first.middle < 0.8 * max(word.size, first.size)
        )
        if not beside:
            rows.append([])
            first = word
        rows[-1].append(word)
    return [Line(_in_row(row)) for row in rows]


def _in_row(words: list[Word]) -> list[Word]:
    """From left to right; from right to left where most is, but for stretches of the other direction."""
    words = sorted(words, key=lambda word: word.left)
    if not from_right(words):
        return words
    turned: list[Word] = []
    stretch: list[Word] = []
    for word in reversed(words):
        if _RIGHT_TO_LEFT.search(word.text):
            turned += [*reversed(stretch), word]
            stretch = []
        else:
            stretch.append(word)
    return turned + stretch[::-1]


def from_right(words: Sequence[Word]) -> bool:
    """Whether most words are of a script that is written from right to left."""
    return sum(1 for word in words if _RIGHT_TO_LEFT.search(word.text)) * 2 > len(words)


def in_order(words: list[Word], depth: int = 0) -> Iterator[list[Word]]:
    """Stretches of a page in the order of reading: what stands above columns, each column, what is below.

    A gutter is a strip without words, between things that reach across it (headings, wide figures), with
    columns on both sides. The tallest is cut first, and each part is looked at again.
    """
    if not words:
        return
    found = _gutter(words) if depth < _DEEPEST and len(words) <= _MOST_WORDS else None
    if found is None:
        yield words
        return
    above, parts, below = found
    yield from in_order(above, depth + 1)
    for part in parts:
        yield from in_order(part, depth + 1)
    yield from in_order(below, depth + 1)


def _gutter(words: list[Word]) -> tuple[list[Word], list[list[Word]], list[Word]] | None:
    """Above, the parts beside the gutter in order, below; None where there is no gutter."""
    size = median(word.size for word in words)
    words = sorted(words, key=lambda word: word.top)
    left, top, right, bottom = (
        np.array([getattr(word, side) for word in words], np.float32)
        for side in ("left", "top", "right", "bottom")
    )
    middle = (top + bottom) / 2
    width = _GUTTER * size
    if not np.isfinite(size) or size <= 0 or right.max() - left.min() < 8 * size:
        return None
    count = min(_PLACES, int((right.max() - left.min()) / (size / 4)))
    places = np.linspace(left.min(), right.max() - width, count, dtype=np.float32)[:, None]
    # What reaches across each place, and the free height between those and at both ends.
    across = (left < places + width) & (right > places)
    lowest = np.maximum.accumulate(np.where(across, bottom, top.min()), axis=1)
    ends = np.concatenate([np.where(across, top, -np.inf), np.full((count, 1), bottom.max())], axis=1)
    begins = np.concatenate([np.full((count, 1), top.min()), lowest], axis=1)
    bands = (ends - begins).argmax(axis=1)[:, None]
    high, low = (np.take_along_axis(edge, bands, axis=1) for edge in (begins, ends))
    inside = (middle >= high) & (middle <= low)
    # At least so many words on both sides, or it is no more than a margin.
    fewest = np.minimum((inside & (right <= places)).sum(axis=1), (inside & (left > places)).sum(axis=1))
    height = np.where(fewest > _FEWEST_LINES, (low - high)[:, 0], 0.0)
    tried: set[tuple[float, float]] = set()
    for at in np.argsort(-height, kind="stable"):
        band = float(high[at, 0]), float(low[at, 0])
        if height[at] < _FEWEST_LINES * size or len(tried) > _TRIALS:
            break
        if band in tried:
            continue
        tried.add(band)
        within = [word for word, is_in in zip(words, inside[at], strict=True) if is_in]
        sides = [[word for word in within if (word.left > places[at, 0]) == after] for after in (False, True)]
        if parts := _columns(sides[0], sides[1]):
            above = [word for word in words if word.middle < band[0]]
            return above, parts, [word for word in words if word.middle > band[1]]
    return None


def _columns(left: list[Word], right: list[Word]) -> list[list[Word]]:
    """The parts on both sides of a strip in the order of reading; empty where they are cells of rows."""
    lines = [lines_of(side) for side in (left, right)]
    fewest = min(len(side) for side in lines)
    if fewest < _FEWEST_LINES:
        return []
    sides = [right, left] if from_right(left + right) else [left, right]
    before = {word.at for word in left}
    drawn = sorted(left + right, key=lambda word: word.at)
    runs = [[drawn[0]]]
    for last, word in pairwise(drawn):
        if (last.at in before) != (word.at in before):
            runs.append([])
        runs[-1].append(word)
    prose = all(_is_prose(side) for side in lines)
    changes = len(runs) - 1
    if changes <= _FEW_CHANGES:
        return sides if prose or not _in_rows(*lines) else []
    # Far fewer changes than lines: whole cells or stretches of columns were drawn one after the other.
    if changes < (1.2 if prose else 0.5) * fewest:
        return runs
    return sides if prose else []


def _in_rows(left: list[Line], right: list[Line]) -> bool:
    """Whether the lines of both sides stand at the same heights, as rows of a table do."""
    fewer, more = sorted((left, right), key=len)
    heights = np.array([(line.top + line.bottom) / 2 for line in more])
    beside = sum(
        bool(np.abs(heights - (line.top + line.bottom) / 2).min() < 0.15 * line.size) for line in fewer
    )
    return beside >= 0.9 * len(fewer) and len(fewer) > 0.7 * len(more)


def _is_prose(lines: list[Line]) -> bool:
    """Whether most lines are full and go on in the next, as they don't in a table."""
    if median(line.right - line.left for line in lines) < _NARROW * lines[0].size:
        return False
    end = max(line.right for line in lines) - min(line.left for line in lines)
    # A line is full where the next word would have been too much.
    room = [end - (line.right - line.left) for line in lines]
    words = [line.words[0].right - line.words[0].left for line in lines[1:]]
    if sum(map(operator.lt, room, words)) < 0.6 * len(words):
        return False
    first = [line.words[0].text[0] for line in lines]
    cased = [letter for letter in first if letter.lower() != letter.upper() or letter.isdigit()]
    return 2 * len(cased) < len(lines) or sum(map(str.islower, cased)) > 0.2 * len(cased)


def paragraphs(parts: Sequence[list[Word]], body: float) -> list[Paragraph]:
    """Paragraphs of a page whose parts are in order; one goes on in the next column.

    Args:
        parts: as `in_order` has them.
        body: size of the font that most text is in.
    """
    found: list[Paragraph] = []
    for part in parts:
        lines = lines_of(part)
        column = _Column(lines, body)
        for at, line in enumerate(lines):
            if at:
                between = column.between(lines[at - 1], line)
            else:
                goes_on = found and not found[-1].table and _goes_on(found[-1].lines[-1], line)
                between = " " if goes_on and line not in column.rows else ""
            if between:
                found[-1].breaks.append(between)
                found[-1].lines.append(line)
            else:
                found.append(Paragraph([line], [], _is_item(line), line in column.rows))
    return found


class _Column:
    """What lines of a column have in common, and whether a paragraph ends between two of them."""

    def __init__(self, lines: list[Line], body: float) -> None:
        self.body = body
        self.turned = from_right([word for line in lines for word in line.words])
        self.begin = Counter(round(self._begin(line)) for line in lines).most_common(1)[0][0]
        # A single line may reach further than its column does.
        self.end = sorted(map(self._end, lines))[int(0.85 * (len(lines) - 1) + 0.5)]
        self.width = max(line.right for line in lines) - min(line.left for line in lines)
        pairs = [pair for pair in pairwise(lines) if self._are_rows(*pair)]
        self.rows = {line for pair in pairs for line in pair}
        gaps = [after.top - line.bottom for line, after in pairwise(lines)]
        self.gap = min(median(gaps), 0.6 * body) if gaps else 0.0

    def _are_rows(self, line: Line, after: Line) -> bool:
        """Whether two lines are rows of a table: wide gaps above one another part their cells."""
        width = _CELLS * min(line.size, after.size)
        return not (self._is_stretched(line) or self._is_stretched(after)) and any(
            min(end, other_end) - max(start, other) > 0.5 * width
            for start, end in line.gaps()
            for other, other_end in after.gaps()
        )

    def _is_stretched(self, line: Line) -> bool:
        """Whether a line of few words was widened to fill its column."""
        full = line.right - line.left > self.width - 0.2 * line.size
        gaps = [after.left - word.right for word, after in pairwise(line.words)]
        return full and len(gaps) > 1 and max(gaps) - min(gaps) < 0.15 * max(gaps)

    def between(self, line: Line, after: Line) -> str:
        """What parts two lines: nothing but a space, a line end, or (empty) the end of a paragraph."""
        size = max(line.size, after.size)
        if after.top - line.bottom > self.gap + 0.35 * size or size > 1.12 * min(line.size, after.size):
            return ""
        if _is_item(after):
            return ""
        if line in self.rows or after in self.rows:
            return "\n" if self._are_rows(line, after) else ""
        if size > 1.12 * self.body:
            return " "
        begin, indent = self._begin(after), 0.8 * size
        # Of a hanging indent, the first line begins before most others.
        outside = begin < self._begin(line) - indent and begin < self.begin - indent
        inside = begin > self._begin(line) + indent and begin > self.begin + indent
        first = after.words[0]
        fits = self.end - self._end(line) > first.right - first.left + 0.5 * size
        ended = line.words[-1].text.rstrip("\"'”’)]»").endswith(_ENDS)
        if outside or (ended and (inside or fits)):
            return ""
        goes_on = first.text[0].islower() or line.words[-1].text.endswith(HYPHENS)
        return "\n" if fits and not goes_on else " "

    def _begin(self, line: Line) -> float:
        """Where a line begins, in the direction of reading."""
        return -line.right if self.turned else line.left

    def _end(self, line: Line) -> float:
        return -line.left if self.turned else line.right


def _goes_on(line: Line, after: Line) -> bool:
    """Whether a sentence that a column ends in goes on in the next one."""
    same = max(line.size, after.size) <= 1.12 * min(line.size, after.size)
    text = line.words[-1].text
    return same and not text.endswith(_ENDS) and after.words[0].text[0].islower()


def _is_item(line: Line) -> bool:
    return len(line.words) > 1 and _MARKER.fullmatch(line.words[0].text) is not None
