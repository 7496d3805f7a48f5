"""The words of a PDF's page as pdfium draws them, each with its rectangle."""

from __future__ import annotations

import ctypes
import math
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fidkit.passages.load.layout import HYPHEN, Rectangle, Word

if TYPE_CHECKING:
    from pypdfium2 import PdfPage

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
ASKEW = 4
"""The `turn` of words that stand at no right angle, as watermarks do."""

_SPACES = frozenset(code for code in range(0x3001) if chr(code).isspace())
# What has no width and no meaning in a text; joiners have a meaning in Persian and Indic scripts.
_WITHOUT_WIDTH = frozenset([0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF])
_HYPHENS = frozenset([0x02, 0xAD, 0xFFFE])
# pdfium marks a hyphen that a line ends with by one of these, and begins no new line there.
_AT_LINE_END = frozenset([0x02, 0xFFFE])
# Ligatures as their letters, and the bullets of symbol fonts as such.
_WRITTEN = {code: unicodedata.normalize("NFKC", chr(code)) for code in [*range(0xFB00, 0xFB07), 0x132, 0x133]}
_WRITTEN |= {0xF0B7: "•", 0xF0A7: "▪", 0xF0A8: "□", 0xF0D8: "‣", 0xF0FC: "✓", 0xF0E0: "→", 0xF02D: "-"}


@dataclass(frozen=True, slots=True)
class Page:
    """A page as it was read.

    Attributes:
        words: in the order of drawing.
        width, height: as shown, in points.
        drawn: whether there is anything on it, text or not.
        hidden: words that stand outside of what is shown; they are not among `words`.
        unknown: the proportion of its characters that its fonts don't name.
    """

    words: list[Word]
    width: float
    height: float
    drawn: bool
    hidden: int = 0
    unknown: float = 0.0


@dataclass(frozen=True, slots=True)
class View:
    """How a page is shown: the part of it, in the PDF's own coordinates, and quarters clockwise."""

    left: float
    bottom: float
    right: float
    top: float
    quarters: int

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A point of the PDF's as one from the upper left corner of the page as shown."""
        return (
            (x - self.left, self.top - y),
            (y - self.bottom, x - self.left),
            (self.right - x, y - self.bottom),
            (self.top - y, self.right - x),
        )[self.quarters]

    def rectangle(self, left: float, bottom: float, right: float, top: float) -> Rectangle:
        """A rectangle of the PDF's as one of the page as shown."""
        (x1, y1), (x2, y2) = self.point(left, bottom), self.point(right, top)
        return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def view_of(page: PdfPage) -> View:
    """How a page is shown, by its crop box and its rotation."""
    left, bottom, right, top = page.get_bbox()
    return View(left, bottom, right, top, page.get_rotation() // 90 % 4)


def page_of(page: PdfPage) -> Page:
    """Reads a page.

    Raises:
        PdfiumError: it can't be read.
    """
    import pypdfium2.raw as raw

    view = view_of(page)
    width, height = page.get_size()
    textpage = page.get_textpage()
    try:
        reading = _Reading(raw, textpage.raw, view)
        reading.read(textpage.count_chars())
    finally:
        textpage.close()
    shown = [word for word in reading.words if _is_on(word, width, height)]
    for at, word in enumerate(shown):
        word.at = at
    return Page(
        shown, width, height, raw.FPDFPage_CountObjects(page.raw) > 0, len(reading.words) - len(shown),
        reading.unknown / max(reading.count, 1),
    )  # fmt: skip


def _is_on(word: Word, width: float, height: float) -> bool:
    left, top, right, bottom = word.box
    return 0 <= (left + right) / 2 <= width and 0 <= (top + bottom) / 2 <= height


class _Reading:
    """Characters to words.

    A word ends at white space, drawn or seen by pdfium, and where the next character stands elsewhere.
    """

    def __init__(self, raw: Any, textpage: Any, view: View) -> None:
        self.words: list[Word] = []
        self.count = self.unknown = 0
        self._raw, self._textpage, self._view = raw, textpage, view
        self._text: list[str] = []
        self._first = 0
        self._glued = False
        self._left = self._bottom = self._right = self._top = 0.0

    def read(self, count: int) -> None:
        """All characters of the page."""
        unicode_of, box_of = self._raw.FPDFText_GetUnicode, self._raw.FPDFText_GetLooseCharBox
        textpage, rectangle = self._textpage, self._raw.FS_RECTF()
        reference = ctypes.byref(rectangle)
        right = bottom = left = top = 0.0
        for at in range(count):
            code = unicode_of(textpage, at)
            if code in _SPACES:
                self._end(glued=False)
                continue
            if code in _WITHOUT_WIDTH or not box_of(textpage, at, reference):
                continue
            before = left, bottom, right, top
            left, bottom, right, top = rectangle.left, rectangle.bottom, rectangle.right, rectangle.top
            alone = code >= 0x0E00 and is_unspaced(code)
            # Most characters stand right behind the one before, in the same font.
            if (
                not self._text
                or alone
                or not (
                    bottom == before[1]
                    and top == before[3]
                    and -1.0 < left - before[2] < 1.0
                    and left > before[0]
                )
            ):
                if self._text and (alone or _is_elsewhere(before, left, bottom, right, top)):
                    self._end(glued=alone and not _is_elsewhere(before, left, bottom, right, top))
                self._widen(at, left, bottom, right, top)
            else:
                self._right = right
            self._text.append(chr(code) if 0x20 < code < 0x7F else self._named(code))
            if alone or code in _AT_LINE_END:
                self._end(glued=alone)
        self._end(glued=False)

    def _widen(self, at: int, left: float, bottom: float, right: float, top: float) -> None:
        """The word's rectangle takes in that of a character, or begins with it."""
        if not self._text:
            self._first = at
            self._left, self._bottom, self._right, self._top = left, bottom, right, top
        else:
            self._left, self._bottom = min(self._left, left), min(self._bottom, bottom)
            self._right, self._top = max(self._right, right), max(self._top, top)

    def _named(self, code: int) -> str:
        """A character; what is none, as fonts without names for their glyphs have it, is U+FFFD."""
        if code in _HYPHENS:
            return HYPHEN
        if code in _WRITTEN:
            return _WRITTEN[code]
        if code < 0x20 or 0x7F <= code < 0xA0 or code > 0x10FFFF or code & 0xFFFE == 0xFFFE:
            self.unknown += 1
            return UNKNOWN
        if 0xE000 <= code <= 0xF8FF or code == 0xFFFD:
            self.unknown += 1
        return chr(code)

    def _end(self, *, glued: bool) -> None:
        """The word ends here; what follows is `glued` to it or not."""
        if self._text:
            self.count += len(self._text)
            self._add(_mended("".join(self._text)))
            self._text = []
            self._glued = glued
        elif not glued:
            self._glued = False

    def _add(self, text: str) -> None:
        raw = self._raw
        matrix = raw.FS_MATRIX()
        size, turn = 0.0, 0
        if raw.FPDFText_GetMatrix(self._textpage, self._first, ctypes.byref(matrix)):
            size = raw.FPDFText_GetFontSize(self._textpage, self._first) * math.hypot(matrix.c, matrix.d)
            turn = _turn(matrix.a, matrix.b, self._view.quarters)
        box = left, top, right, bottom = self._view.rectangle(
            self._left, self._bottom, self._right, self._top
        )
        if not all(map(math.isfinite, box)):
            return
        if turn == 1:
            left, top, right, bottom = top, -right, bottom, -left
        elif turn == 2:
            left, top, right, bottom = -right, -bottom, -left, -top
        elif turn == 3:
            left, top, right, bottom = -bottom, left, -top, right
        # Sizes are compared with one another and divided by: a font's own may be anything.
        height = bottom - top
        if not 0.25 * height < size < 4 * height:
            size = max(height, 0.1)
        self.words.append(Word(text, box, left, top, right, bottom, size, turn, self._glued))


def _mended(text: str) -> str:
    """A word's characters put right: pairs of surrogates joined, lone ones unknown, accents composed."""
    if text.isascii():
        return text
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    # A soft hyphen is seen only at the end of a line.
    text = text[:-1].replace(HYPHEN, "") + text[-1:]
    return unicodedata.normalize("NFC", text)


def _is_elsewhere(
    before: tuple[float, float, float, float], left: float, bottom: float, right: float, top: float
) -> bool:
    """Whether a character isn't beside the one before it: further away than half their size."""
    near = 0.5 * max(before[3] - before[1], top - bottom, before[2] - before[0], right - left)
    return (
        left - before[2] > near
        or before[0] - right > near
        or bottom - before[3] > near
        or before[1] - top > near
    )


def is_unspaced(code: int) -> bool:
    """Whether a character is of a script without spaces, where each has a rectangle of its own."""
    return code >= 0x0E00 and (
        0x2E80 <= code <= 0x9FFF
        or 0xF900 <= code <= 0xFAFF
        or 0xFF01 <= code <= 0xFF65
        or 0x20000 <= code <= 0x3FFFF
        or 0x0E00 <= code <= 0x0EFF
        or 0x1000 <= code <= 0x109F
        or 0x1780 <= code <= 0x17FF
    )


def _turn(a: float, b: float, quarters: int) -> int:
    """Quarters clockwise that a word is turned by as the page is shown, from the matrix of its text."""
    angle = math.atan2(b, a) / (math.pi / 2)
    if not math.isfinite(angle) or abs(angle - round(angle)) > 0.12:
        return ASKEW
    return (quarters - round(angle)) % 4
