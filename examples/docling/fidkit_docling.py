"""LaTeX, converted by docling: an example of a loader for fidkit."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import PurePath
from typing import BinaryIO

from fidkit.passages.load.document import Document, Writer


def read_latex(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A text in LaTeX: headings, paragraphs, items, formulas, and tables by row."""
    from docling.datamodel.base_models import DocumentStream, InputFormat
    from docling.document_converter import DocumentConverter

    given = DocumentStream(name=PurePath(name).name, stream=io.BytesIO(stream.read()))
    found = DocumentConverter(allowed_formats=[InputFormat.LATEX]).convert(given).document
    writer, title, opened = Writer(), "", False
    for item, _ in found.iterate_items():
        label, text = item.label.value, getattr(item, "text", "")
        if label == "title":
            title = title or text
        if label in ("title", "section_header"):
            if opened:
                writer.end()
            opened = True
            writer.begin("heading", text)
            writer.block(text, "heading", getattr(item, "level", 1))
        elif label == "table":
            for row in item.data.grid:
                writer.block(" | ".join(cell.text for cell in row), "row")
        else:
            writer.block(text, "item" if label == "list_item" else "paragraph")
    yield writer.document(title)
