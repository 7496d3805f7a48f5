"""Cells of a workbook (XLSX) that are shown as percent: the file holds 0.256 where people see 25.6%."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml import etree

    from fidkit.passages.load.package import Package

_STYLES = "xl/styles.xml"
_BUILT_IN = {9: 0, 10: 2}
"""Of the formats that every workbook has, those in percent, and their digits behind the point."""
_CELL = re.compile(rb"<c\s([^>]*)>")
_PLACE = re.compile(rb"""\br=["']([A-Z]{1,3})([0-9]{1,7})["']""")
_STYLE = re.compile(rb"""\bs=["']([0-9]{1,6})["']""")
# What stands in quotes or behind a backslash is text.
_TEXT = re.compile(r'"[^"]*"|\\.|_.|\[[^\]]*\]')
_SHARE = re.compile(r"[0#?](?:[.,]([0#?]*))?\s*%")


def percent_styles(package: Package) -> dict[int, int]:
    """The styles of cells that show percent, by number, and how many digits they show behind the point."""
    root = package.maybe(_STYLES)
    if root is None:
        return {}
    formats = dict(_BUILT_IN)
    for node in root.iter("{*}numFmt"):
        shown = _SHARE.search(_TEXT.sub("", node.get("formatCode", "").partition(";")[0]))
        if shown:
            formats[_number(node)] = len(shown[1] or "")
    cells = root.find("{*}cellXfs")
    styles = [] if cells is None else [_number(node) for node in cells.iterchildren("{*}xf")]
    return {at: formats[number] for at, number in enumerate(styles) if number in formats}


def _number(node: etree._Element) -> int:
    said = node.get("numFmtId", "")
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 10 else -1


def sheets_of(package: Package) -> list[tuple[str, str]]:
    """The sheets of a workbook in its order: name, and the member that holds it; empty for one that lacks."""
    main = package.main("xl/workbook.xml")
    root, targets = package.maybe(main), package.related(main)
    found = [] if root is None else root.findall("{*}sheets/{*}sheet")
    ids = (next((value for key, value in node.items() if key.endswith("}id")), "") for node in found)
    members = [targets.get(name, ("", ""))[1] for name in ids]
    return [(node.get("name", ""), member) for node, member in zip(found, members, strict=True)]


class Percents:
    """The cells of a sheet that show percent, kept as stretches of rows in each column."""

    def __init__(self, styles: Mapping[int, int]) -> None:
        self._styles = styles
        self._columns: dict[bytes, tuple[array[int], array[int], array[int]]] = {}

    def look(self, xml: bytes) -> None:
        """Take note of the cells in a piece of a sheet; pieces come in order, and may overlap."""
        for cell in _CELL.finditer(xml) if self._styles else ():
            style, place = _STYLE.search(cell[1]), _PLACE.search(cell[1])
            if style and place and (digits := self._styles.get(int(style[1]))) is not None:
                self._add(place[1], int(place[2]), digits)

    def _add(self, column: bytes, row: int, digits: int) -> None:
        firsts, lasts, shown = self._columns.setdefault(column, (array("I"), array("I"), array("I")))
        if lasts and row <= lasts[-1]:
            return
        if lasts and row == lasts[-1] + 1 and shown[-1] == digits:
            lasts[-1] = row
            return
        for stretch, value in zip((firsts, lasts, shown), (row, row, digits), strict=True):
            stretch.append(value)

    def by_column(self) -> dict[int, bytes]:
        """Columns with such cells, counted from 0, by their letters."""
        return {column_number(letters) - 1: letters for letters in self._columns}

    def digits(self, column: bytes, row: int) -> int | None:
        """How many digits behind the point a cell shows, its row counted from 1; None for no percent."""
        firsts, lasts, shown = self._columns[column]
        at = bisect_right(firsts, row) - 1
        return shown[at] if at >= 0 and row <= lasts[at] else None


def column_number(letters: bytes) -> int:
    """The number of a column, counted from 1, by its letters."""
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def percent_text(value: float, digits: int) -> str:
    """A share as percent: `25.6%`."""
    return f"{100 * value:.{min(digits, 15)}f}%"
