"""Small office files made by hand, so that they need neither pandoc nor LibreOffice."""

from __future__ import annotations

import io
import json

from documents import packed

MAIN = {
    "docx": "word/document.xml",
    "odt": "content.xml",
    "ods": "content.xml",
    "xlsx": "xl/worksheets/sheet1.xml",
    "epub": "chapter.xhtml",
    "pptx": "ppt/slides/slide1.xml",
}
"""The part of each kind that its text stands in."""
_NAMES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
)
_SENTENCE = "The Aurora sailed in 1901."


def word(text: str = _SENTENCE) -> bytes:
    """A document of Word with a heading, a text and a table."""
    from docx import Document

    made, stream = Document(), io.BytesIO()
    made.add_heading("Ships", 1)
    made.add_paragraph(text)
    table = made.add_table(rows=2, cols=2)
    for at, cell in enumerate(("Ship", "Masts", "Aurora", "3")):
        table.cell(at // 2, at % 2).text = cell
    made.save(stream)
    return stream.getvalue()


def opendocument_text(text: str = _SENTENCE) -> bytes:
    """A text of OpenDocument."""
    body = f'<text:h text:outline-level="1">Ships</text:h><text:p>{text}</text:p>'
    return _opendocument("text", f"<office:text>{body}</office:text>")


def opendocument_sheet(text: str = "Aurora") -> bytes:
    """A workbook of OpenDocument."""
    cell = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    rows = "".join(
        f"<table:table-row>{''.join(map(cell.format, row))}</table:table-row>"
        for row in (("Ship", "Masts"), (text, "3"))
    )
    table = f'<table:table table:name="T">{rows}</table:table>'
    return _opendocument("spreadsheet", f"<office:spreadsheet>{table}</office:spreadsheet>")


def _opendocument(kind: str, body: str) -> bytes:
    content = f'<?xml version="1.0"?><office:document-content {_NAMES}><office:body>{body}</office:body>'
    return packed({
        "mimetype": f"application/vnd.oasis.opendocument.{kind}",
        "content.xml": f"{content}</office:document-content>",
    })  # fmt: skip


def book(text: str = _SENTENCE) -> bytes:
    """A book (EPUB) of one chapter."""
    head = '<?xml version="1.0"?>'
    container = (
        f'{head}<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    package = (
        f'{head}<package xmlns="http://www.idpf.org/2007/opf"><metadata/><manifest><item id="c" '
        'href="chapter.xhtml" media-type="application/xhtml+xml"/></manifest><spine><itemref idref="c"/>'
        "</spine></package>"
    )
    page = f'{head}<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>Ships</h1><p>{text}</p></body></html>'
    return packed({
        "mimetype": "application/epub+zip", "META-INF/container.xml": container, "book.opf": package,
        "chapter.xhtml": page,
    })  # fmt: skip


def rich_text(text: str = _SENTENCE) -> bytes:
    """A text in RTF."""
    return rb"{\rtf1\ansi{\fonttbl{\f0 Arial;}}{\b Ships}\par " + text.encode("ascii") + rb"\par}"


def notebook(text: str = _SENTENCE) -> bytes:
    """A notebook with a cell of text and one of code."""
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Ships\n", text]},
        {"cell_type": "code", "metadata": {}, "source": "masts = 3", "outputs": [], "execution_count": 1},
    ]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}).encode()
