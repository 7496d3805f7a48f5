"""Where a copied piece of a text really begins and ends.

A vocabulary may drop line breaks, columns and marks of layout, so that a decoder copies on over the end of a
line, or stops inside of a number. Who reads the document sees where its phrases end.
"""

from __future__ import annotations

import re

from fidkit.passages.scripts import is_unspaced

_BORDER = re.compile(r"\||\t|[ \t]{3,}")
"""A border of cells or columns within a line."""
_ITEM = re.compile(r"[ \t]*(?:[-*+•>#]|\d+[.)])[ \t]")
"""How an item of a list, a quote or a heading begins."""
_CELL = re.compile(rf"\s*\|\s*|\t|[ \t]{{3,}}|\n\s*\n|\n(?={_ITEM.pattern})")
"""Borders of cells, columns, paragraphs and items of lists."""
_KEY = re.compile(r"[ \t]*[\w.-]+(?: [\w.-]+){0,2}[ \t]*(?::(?=\s|$)|=)")
"""How a line begins that gives the value of something: `port: 8443`, `last name = Munk`."""
_WRAPPED = 50
"""A line of so many characters may go on in the next one; a shorter one ends what it says."""
_AROUND = " \t\r\n|*_`#,;:/\N{EN DASH}\N{EM DASH}"
"""Marks that no phrase begins or ends with."""
_JOINS = ".,:-/+@_"
"""Marks that join letters and digits to one word or number."""


def phrase(text: str, start: int, end: int) -> tuple[int, int]:
    """The part of `text[start:end]` that is one phrase, and its last word or number whole.

    It ends with its line, cell or paragraph, has no marks of layout around it, and has words, numbers and
    codes whole that were left in the middle ("€19." of "€19.90"). Where that leaves nothing, all stays.
    """
    first, last = _without_marks(text, start, _first_end(text, start, end))
    if first >= last:
        return start, end
    while not is_word_bound(text, first):
        first -= 1
    return first, _to_the_end_of_a_word(text, last)


def line_around(text: str, start: int, end: int) -> tuple[int, int]:
    """The line of `text` that holds `text[start:end]`, with the lines that it is wrapped over.

    Rows of a table, items of a list, keys with their values and short lines are lines of their own, whatever
    marks they end with. A line that begins with a small letter goes on with what the one before says, and a
    quotation ends before what is not quoted as often.
    """
    before = text.rfind("\n", 0, start)
    while before >= 0 and not _ends_a_line(text, before):
        before = text.rfind("\n", 0, before)
    after = text.find("\n", end)
    while after >= 0 and not _ends_a_line(text, after):
        after = text.find("\n", after + 1)
    return before + 1, len(text) if after < 0 else after


def _ends_a_line(text: str, at: int) -> bool:
    before = text[text.rfind("\n", 0, at) + 1 : at].strip()
    after = text[at + 1 :].partition("\n")[0]
    quoted, also = _quoted(before), _quoted(after)
    if quoted:  # within a quotation of a mail, or at its end
        if quoted != also:
            return True
        before, after = before.lstrip("> "), after.lstrip("> ")
    if not before or not after.strip() or _ITEM.match(after) or (_KEY.match(before) and _KEY.match(after)):
        return True
    if _BORDER.search(before):
        return bool(_BORDER.search(after.strip()))
    return len(before) < _WRAPPED and not after.strip()[0].islower()


def _quoted(line: str) -> int:
    """How often a line of a mail was quoted, by the marks that it begins with."""
    return line[: len(line) - len(line.lstrip("> "))].count(">")


def _first_end(text: str, start: int, end: int) -> int:
    """Where the first line, cell or paragraph ends in which there is something."""
    begin = start
    while begin < end and text[begin] in _AROUND:
        begin += 1
    cell = _CELL.search(text, begin)  # what makes it a border may stand behind the end
    stop = cell.start() if cell and cell.start() < end else end
    for at in range(begin, stop):
        if text[at] == "\n" and (at - (text.rfind("\n", 0, at) + 1) < _WRAPPED or _ends_a_line(text, at)):
            return at
    return stop


def _without_marks(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start] in _AROUND:
        start += 1
    if end < len(text) and _joined(text, end - 1):
        return start, end
    while end > start and (text[end - 1] in _AROUND or (text[end - 1] == "-" and text[end - 2].isspace())):
        end -= 1
    return start, end


def _to_the_end_of_a_word(text: str, end: int) -> int:
    """Behind the word, number or code that `end` is in the middle of."""
    while not is_word_bound(text, end):
        end += 1
    if not (_joined(text, end - 1) or (text[end - 1].isdigit() and _joined(text, end, digits=True))):
        return end
    while end < len(text) and (text[end].isalnum() or _joined(text, end)):
        end += 1
    return end


def _joined(text: str, at: int, *, digits: bool = False) -> bool:
    """Whether there is a mark at `at` between letters or digits, or between digits alone."""
    if not 0 < at < len(text) - 1 or text[at] not in (".,:" if digits else _JOINS):
        return False
    before, after = text[at - 1], text[at + 1]
    return before.isdigit() and after.isdigit() if digits else before.isalnum() and after.isalnum()


def is_word_bound(text: str, index: int) -> bool:
    """Whether no word goes on from before a character to behind it; scripts without spaces have no words."""
    if not 0 < index < len(text):
        return True
    before, after = text[index - 1], text[index]
    return not (before.isalnum() and after.isalnum()) or is_unspaced(before) or is_unspaced(after)
