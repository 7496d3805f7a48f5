"""Tables in texts and slides of OpenDocument."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fidkit.passages.load.document import Writer
from fidkit.passages.load.grid import write_table
from fidkit.passages.load.opendocument import TABLE, count_of, paragraph_text, paragraphs
from fidkit.passages.load.prose import flat

if TYPE_CHECKING:
    from lxml import etree

_MOST_ROWS, _MOST_CELLS = 1000, 1000


def write_odf_table(
    writer: Writer, table: etree._Element, marks: dict[etree._Element, int] | None = None
) -> None:
    """Write a table; `marks` gets the footnotes in it, as with `paragraph_text`."""
    headed = table.find(f"{TABLE}table-header-rows/{TABLE}table-row") is not None
    lasting: dict[int, tuple[int, str]] = {}
    rows: list[list[str]] = []
    for row in _rows(table):
        cells = _cells(row, len(rows), lasting, marks)
        rows += [cells] * min(count_of(row, "number-rows-repeated"), _MOST_ROWS)
    write_table(writer, rows, headed or None)


def _cells(
    row: etree._Element,
    number: int,
    lasting: dict[int, tuple[int, str]],
    marks: dict[etree._Element, int] | None,
) -> list[str]:
    """Texts of a row; a cell that spans rows stands in each of them."""
    cells: list[str] = []
    for cell in row.iterchildren(f"{TABLE}table-cell", f"{TABLE}covered-table-cell"):
        texts = (flat(paragraph_text(node, marks)) for node in paragraphs(cell))
        text = "; ".join(filter(None, texts))
        last, above = lasting.get(len(cells), (-1, ""))
        if not text and number <= last:
            text = above
        elif (down := count_of(cell, "number-rows-spanned")) > 1:
            lasting[len(cells)] = number + down - 1, text
        cells += [text] * min(count_of(cell, "number-columns-repeated"), max(1, _MOST_CELLS - len(cells)))
    return cells


def _rows(parent: etree._Element) -> Iterator[etree._Element]:
    for node in parent.iterchildren(f"{TABLE}table-row", f"{TABLE}table-header-rows", f"{TABLE}table-rows",
                                    f"{TABLE}table-row-group"):  # fmt: skip
        if node.tag == f"{TABLE}table-row":
            yield node
        else:
            yield from _rows(node)
