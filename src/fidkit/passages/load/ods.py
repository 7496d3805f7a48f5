"""Workbooks of OpenDocument (ODS), read row by row.

A row of this format may stand for a million equal ones: they are counted, and repeated where they say
something, up to a limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from fidkit.passages.load.document import Document
from fidkit.passages.load.grid import GridRow, Sheet, number_text, write_workbook
from fidkit.passages.load.opendocument import (
    OFFICE,
    STYLE,
    TABLE,
    TEXT,
    count_of,
    meta_facts,
    opened,
    paragraph_text,
)
from fidkit.passages.load.package import Package, reading
from fidkit.passages.load.prose import flat

if TYPE_CHECKING:
    from lxml import etree

_WHAT = "an OpenDocument workbook"
_CONTENT = "content.xml"
_WIDEST = 16_384
_REPEATED = 1000
"""Equal rows that are written; what repeats oftener was filled in by a program."""


def read_ods(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A workbook of OpenDocument; places and values as `read_workbook` has them.

    Shares and sums of money are written as they are shown.

    Args:
        stream: seekable.
        name: of the file.

    Raises:
        UnreadableFile: it isn't one, is broken, or needs a password.
    """
    with reading(name, _WHAT):
        package = opened(stream, name, _WHAT, ".sxc", "spreadsheet")
        title, facts = meta_facts(package)
        notes: list[str] = []
        document = write_workbook(_sheets(package, notes), title, facts, notes)
    yield document


def _sheets(package: Package, notes: list[str]) -> Iterator[Sheet]:
    from lxml import etree

    with package.opened(_CONTENT) as content:
        tags = (f"{OFFICE}spreadsheet", f"{TABLE}table", f"{TABLE}table-row", f"{STYLE}table-properties",
                f"{STYLE}style")  # fmt: skip
        events = etree.iterparse(content, ("start", "end"), tag=tags, resolve_entities=False, no_network=True,
                                 load_dtd=False, huge_tree=False, remove_comments=True)  # fmt: skip
        hidden: set[str] = set()
        within = False
        for event, node in events:
            if event == "end" and node.tag.endswith("}table-properties"):
                over = node.getparent()
                if node.get(f"{TABLE}display") == "false" and over is not None:
                    hidden.add(over.get(f"{STYLE}name", ""))
            elif event == "start" and node.tag == f"{OFFICE}spreadsheet":
                within = True
            elif event == "start" and node.tag == f"{TABLE}table" and within:
                label = node.get(f"{TABLE}name", "")
                yield Sheet(
                    label, _rows(events, node, label, notes), node.get(f"{TABLE}style-name") in hidden
                )
        if not within:
            raise package.another()


def _rows(
    events: Iterator[tuple[str, etree._Element]], table: etree._Element, label: str, notes: list[str]
) -> Iterator[GridRow]:
    """Rows of one sheet, until its end."""
    number = 1
    lasting: dict[int, tuple[int, str]] = {}
    for event, node in events:
        if event == "end" and node is table:
            return
        if event != "end" or node.tag != f"{TABLE}table-row":
            continue
        count = count_of(node, "number-rows-repeated")
        cells, wide, own = _cells(node, number, lasting)
        if own:
            for repeated in range(min(count, _REPEATED)):
                yield GridRow(number + repeated, cells, wide)
            if count > _REPEATED:
                notes.append(
                    f"sheet {label} has {count} equal rows from row {number} on; {_REPEATED} are read"
                )
        number += count
        node.clear()


def _cells(
    row: etree._Element, number: int, lasting: dict[int, tuple[int, str]]
) -> tuple[list[str], tuple[tuple[int, int], ...], bool]:
    """Texts of a row, where cells are merged across columns, and whether the row has a text of its own."""
    cells: list[str] = []
    wide = []
    own = False
    for cell in row.iterchildren(f"{TABLE}table-cell", f"{TABLE}covered-table-cell"):
        text = _text(cell)
        count = min(count_of(cell, "number-columns-repeated"), _WIDEST - len(cells))
        own = own or bool(text)
        down, across = count_of(cell, "number-rows-spanned"), count_of(cell, "number-columns-spanned")
        if down > 1 and text:
            lasting[len(cells)] = number + down - 1, text
        if across > 1:
            wide.append((len(cells), min(len(cells) + across, _WIDEST) - 1))
        cells += [text] * count
    for column, (last, text) in list(lasting.items()):
        if number > last:
            del lasting[column]
        elif column < len(cells):
            cells[column] = cells[column] or text
    while cells and not cells[-1]:
        cells.pop()
    return cells, tuple((first, last) for first, last in wide if first < len(cells)), own


def _text(cell: etree._Element) -> str:
    kind = cell.get(f"{OFFICE}value-type", "")
    if kind == "float":
        return _plain(cell.get(f"{OFFICE}value", ""))
    if kind == "date":
        return str(cell.get(f"{OFFICE}date-value", "")).replace("T", " ").removesuffix(" 00:00:00")
    if kind == "boolean":
        return str(cell.get(f"{OFFICE}boolean-value", "")).upper()
    return "; ".join(filter(None, (flat(paragraph_text(node)) for node in cell.iterchildren(f"{TEXT}p"))))


def _plain(value: str) -> str:
    try:
        return number_text(float(value))
    except (ValueError, OverflowError):
        return flat(value)
