"""Cuts a document into passages of about 100 words; every passage is a slice of the document.

A passage ends where a section does, or else a block (a paragraph, an item, a row of a table), as long as that
makes neither a scrap nor a passage longer than it may get. Within a long block it ends with a sentence, and
only in a sentence that has no end in sight behind any word.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from fidkit.errors import UsageError
from fidkit.passages.load.document import Block, Document
from fidkit.passages.load.words import words_of

WORDS = 100
LEAST_WORDS, MOST_WORDS = 10, 1000
"""That may be asked for: a reader takes longer passages apart again."""

# A section begins with these, and gives its name to passages unless it's a number.
_SECTIONS = frozenset(("heading", "slide", "sheet", "chapter", "part"))
# A heading that isn't a place reaches to the end of these.
_HOLDERS = _SECTIONS - {"heading"}
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_LINE_END = re.compile(r"\n\s*")
# So many characters behind the words at hand show whether a sentence ends with the last of them.
_BEYOND = 40


@dataclass(frozen=True, slots=True)
class Cutting:
    """How documents are cut; see `cut`.

    Attributes:
        words: of a passage, about: `LEAST_WORDS` to `MOST_WORDS`.
        overlap: words, at most, that a passage repeats from the one before; fewer than it has.

    Raises:
        UsageError: not so.
    """

    words: int = WORDS
    overlap: int = 0

    def __post_init__(self) -> None:
        for given in (self.words, self.overlap):
            if not isinstance(given, int) or isinstance(given, bool):
                raise UsageError(f"{given!r} is no number of words; expected a whole number")
        if not LEAST_WORDS <= self.words <= MOST_WORDS:
            raise UsageError(
                f"passages of {self.words:,} words can't be; expected {LEAST_WORDS} to {MOST_WORDS:,}"
            )
        _check(self.words, self.overlap)


@dataclass(frozen=True, slots=True)
class Piece:
    """A passage to be: `document.text[start:end]`, in characters, and the heading it stands under."""

    start: int
    end: int
    section: str = ""


class _Word(NamedTuple):
    """Characters of the text, and the number of the block in its stretch."""

    start: int
    end: int
    block: int


def cut(document: Document, words: int = WORDS, overlap: int = 0) -> Iterator[Piece]:
    """Pieces of about so many words, in order.

    Every word of every block is in a piece, but for blocks of kind `repeated`, of which no piece has a
    character. A piece begins and ends with a word and has at most `most(words) + overlap` of them; what is
    written without spaces counts some characters as a word (`words_of`). Less than a quarter of `words` has
    only a piece between repeated blocks, or beside a row that fills one of its own. A row is cut only if it
    has more than `most(words)` words. Without overlap, no two pieces share a word.

    Args:
        document: of any kind; text outside of its blocks counts as paragraphs.
        words: of a piece, about.
        overlap: so many words at most are repeated from the piece before, as whole sentences, rows or lines;
            none where a section begins.

    Raises:
        UsageError: `words` below 1, or an overlap that is negative or not below `words`.
    """
    _check(words, overlap)
    sections = _Sections(document)
    for blocks in _stretches(document):
        stretch = _Stretch(document, blocks, sections.starts, words)
        before: list[_Word] = []
        for piece in stretch.pieces():
            start = piece[0].start
            first = stretch.repeated_from(before, start, overlap) if overlap and before else start
            yield Piece(first, piece[-1].end, sections.at(start))
            before = piece


def _check(words: int, overlap: int) -> None:
    if words < 1:
        raise UsageError(f"passages of {words} words can't be; expected 1 or more")
    if not 0 <= overlap < words:
        raise UsageError(
            f"an overlap of {overlap:,} words can't be; expected 0 to {words - 1:,} for passages of {words:,}"
        )


def most(words: int) -> int:
    """The most words of a piece of about `words`: what would be left behind as a scrap joins it."""
    return max(words, words + _scrap(words) - 1)


def _scrap(words: int) -> int:
    """Fewer words than this are no passage of their own."""
    return words // 4


class _Sections:
    """Where sections begin, and what they are called. Asked from the start of a document to its end."""

    def __init__(self, document: Document) -> None:
        named = [(p.start, p.end, p.label) for p in document.places if p.kind in _SECTIONS]
        known = {place.start for place in document.places if place.kind == "heading"}
        named += _headings(document, known)
        self.starts = sorted({start for start, _, _ in named})
        self._ahead = sorted(named, key=lambda place: (-place[0], place[1]))
        self._open: list[tuple[int, int, str]] = []

    def at(self, character: int) -> str:
        """The name of the innermost section around a character; empty where none has a name."""
        while self._ahead and self._ahead[-1][0] <= character:
            self._open.append(self._ahead.pop())
        self._open = [place for place in self._open if place[1] > character]
        names = (name.strip() for _, _, name in reversed(self._open))
        return next((name for name in names if name and not name.isdecimal()), "")


def _headings(document: Document, known: set[int]) -> Iterator[tuple[int, int, str]]:
    """Headings that are no places, with what they hold: up to the next of their level or above."""
    holders = [place for place in document.places if place.kind in _HOLDERS]
    ends = sorted({end for place in holders for end in (place.start, place.end)} | {len(document.text)})
    open_: list[Block] = []
    last = Block(len(document.text), len(document.text), "heading", 0)
    for block in (*document.blocks, last):
        if block.kind != "heading" or block.start in known:
            continue
        while open_ and open_[-1].level >= block.level:
            held = open_.pop()
            end = min(block.start, ends[bisect_left(ends, held.end)])
            yield held.start, end, " ".join(document.text[held.start : held.end].split())
        open_.append(block)


def _stretches(document: Document) -> Iterator[list[Block]]:
    """Blocks between repeated ones, with text that is in none as paragraphs."""
    stretch: list[Block] = []
    at, length = 0, len(document.text)
    for block in (*document.blocks, Block(length, length, "repeated")):
        if document.text[at : block.start].strip().strip("\ufeff"):
            stretch.append(Block(at, block.start))
        at = max(at, block.end)
        if block.kind != "repeated":
            stretch.append(block)
        elif stretch:
            yield stretch
            stretch = []


class _Stretch:
    """Blocks with nothing between them but white space."""

    def __init__(
        self, document: Document, blocks: Sequence[Block], sections: Sequence[int], words: int
    ) -> None:
        self._text = document.text
        self._blocks = blocks
        self._whole: dict[int, bool] = {}
        self._sections = sections
        self._words, self._scrap, self._most = words, _scrap(words), most(words)
        language = _LANGUAGE.match(document.facts.get("language", "").lower())
        self._language = language.group() if language else "en"

    def pieces(self) -> Iterator[list[_Word]]:
        """The words of each piece. No more is looked at ahead than a piece and a scrap behind it."""
        ahead: list[_Word] = []
        more = self._all_words()
        wanted = self._most + max(1, self._scrap)
        while True:
            ahead += islice(more, wanted - len(ahead))
            if not ahead:
                return
            end = self._end(ahead)
            yield ahead[:end]
            del ahead[:end]

    def repeated_from(self, before: list[_Word], start: int, overlap: int) -> int:
        """Where a piece begins that repeats words of the one before it; `start` where it repeats none."""
        if self._begins_section(start):
            return start
        sections = [at for at in range(len(before)) if self._begins_section(before[at].start)]
        low = max(1, len(before) - overlap, sections[-1] if sections else 0)
        ends = [at for at in range(low, len(before)) if self._is_block_end(before, at)]
        ends += self._sentence_ends(before, low, len(before) - 1)
        return before[min(ends)].start if ends else start

    def _all_words(self) -> Iterator[_Word]:
        for number, block in enumerate(self._blocks):
            for start, end in words_of(self._text, block.start, block.end):
                yield _Word(start, end, number)

    def _end(self, words: list[_Word]) -> int:
        """How many of the words ahead make a piece."""
        count, half = len(words), max(1, self._words // 2)
        latest = min(self._most, count - self._scrap)
        ends = [at for at in range(max(1, self._scrap), latest + 1) if self._is_block_end(words, at)]
        if sections := [at for at in ends if self._begins_section(words[at].start)]:
            return sections[-1]
        if ends and ends[-1] >= half:
            return ends[-1]
        if count <= self._most:
            return count
        if sentences := self._sentence_ends(words, half, latest):
            return min(sentences, key=lambda at: abs(at - self._words))
        return self._outside_rows(words, self._words)

    def _is_block_end(self, words: list[_Word], at: int) -> bool:
        """Whether a passage may end before this word because a block does; a heading wants its text."""
        before = words[at - 1].block
        return at < len(words) and words[at].block != before and self._blocks[before].kind != "heading"

    def _begins_section(self, start: int) -> bool:
        at = bisect_left(self._sections, start)
        return at < len(self._sections) and self._sections[at] == start

    def _outside_rows(self, words: list[_Word], end: int) -> int:
        """An end that is not within a row: before the row, or behind it where it comes first."""
        row = words[end].block
        if words[end - 1].block != row or not self._stays_whole(row):
            return end
        numbers = [word.block for word in words]
        return bisect_left(numbers, row) or bisect_right(numbers, row)

    def _stays_whole(self, number: int) -> bool:
        block = self._blocks[number]
        if block.kind != "row":
            return False
        # Asked for every piece of a row, and of a long row there are many.
        if number not in self._whole:
            words = words_of(self._text, block.start, block.end)
            self._whole[number] = next(islice(words, self._most, None), None) is None
        return self._whole[number]

    def _sentence_ends(self, words: list[_Word], low: int, high: int) -> list[int]:
        """Where sentences, or lines of code, begin among words `low` to `high`; none within whole rows."""
        starts = [word.start for word in words]
        found: list[int] = []
        for number in dict.fromkeys(word.block for word in words[low - 1 : high + 1]):
            if self._stays_whole(number):
                continue
            block = self._blocks[number]
            first, last = max(block.start, starts[0]), min(block.end, words[-1].end)
            for at in self._sentences(block, first, last):
                word = bisect_left(starts, at)
                if low <= word <= high and words[word - 1].end <= at:
                    found.append(word)
        return found

    def _sentences(self, block: Block, first: int, last: int) -> Iterator[int]:
        """Characters behind the sentences, or lines of code, of a part of a block that begins with one."""
        if block.kind == "code":
            yield from (line.end() for line in _LINE_END.finditer(self._text, first, last))
            return
        import sentencex

        part = self._text[first : min(block.end, last + _BEYOND)]
        for boundary in sentencex.get_sentence_boundaries(self._language, part):
            if boundary["end_index"] < len(part):
                yield first + boundary["end_index"]
