"""PDF files by reportlab: in columns, with headers and page numbers, or as pictures of pages."""

from __future__ import annotations

import io
import random
import textwrap
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import BaseDocTemplate, Flowable, Frame, KeepTogether, PageTemplate, Paragraph, Spacer

from mixed.files import Write, Written, picture
from mixed.prose import Fact, Piece

_MARGIN = 60
_GUTTER = 24


class _Placed(Flowable):
    """Knows on which page it was drawn."""

    page = 0

    def __init__(self, paragraph: Paragraph) -> None:
        super().__init__()
        self._paragraph = paragraph

    def wrap(self, width: float, height: float) -> Any:
        return self._paragraph.wrap(width, height)

    def draw(self) -> None:
        self.page = self.canv.getPageNumber()
        self._paragraph.drawOn(self.canv, 0, 0)


def pdf_of(columns: int, header: str = "Harbour office, internal") -> Write:
    """A PDF of some columns, with a header and the number of each page at its foot."""

    def write(path: Path, piece: Piece, fact: Fact | None, chance: random.Random) -> Written:
        styles, section = getSampleStyleSheet(), chance.randrange(len(piece.sections))
        placed = _Placed(Paragraph(escape(fact.sentence), styles["BodyText"])) if fact else None
        story: list[Flowable] = [Paragraph(escape(piece.title), styles["Title"])]
        for number, (heading, paragraphs) in enumerate(piece.sections):
            story.append(Paragraph(escape(heading), styles["Heading2"]))
            for at, paragraph in enumerate(paragraphs):
                story += [Paragraph(escape(paragraph), styles["BodyText"]), Spacer(1, 3)]
                if placed and number == section and at == len(paragraphs) // 2:
                    story.append(KeepTogether([placed]))
        _document(path, piece.title, columns, header).build(story)
        return "", {"page": str(placed.page)} if placed else {}

    return write


def _document(path: Path, title: str, columns: int, header: str) -> BaseDocTemplate:
    width, height = A4
    wide = (width - 2 * _MARGIN - (columns - 1) * _GUTTER) / columns
    frames = [
        Frame(_MARGIN + n * (wide + _GUTTER), _MARGIN, wide, height - 2 * _MARGIN, 0, 0, 0, 0)
        for n in range(columns)
    ]

    def around(canvas: Canvas, _: object) -> None:
        canvas.setFont("Helvetica", 8)
        canvas.drawString(_MARGIN, height - 40, header)
        canvas.drawCentredString(width / 2, 34, f"Page {canvas.getPageNumber()}")

    document = BaseDocTemplate(str(path), pagesize=A4, title=title, invariant=1)
    document.addPageTemplates(PageTemplate(frames=frames, onPage=around))
    return document


def write_scan(path: Path, piece: Piece, _fact: Fact | None, _chance: random.Random) -> Written:
    """A PDF of pictures alone, a page a section, as a scanner makes it."""
    canvas = Canvas(str(path), pagesize=A4, invariant=1)
    for heading, paragraphs in piece.sections:
        lines = [line for text in (heading, *paragraphs) for line in (*textwrap.wrap(text, 110), "")]
        canvas.drawImage(ImageReader(io.BytesIO(picture(lines))), 0, 0, *A4)
        canvas.showPage()
    canvas.save()
    return "", {}
