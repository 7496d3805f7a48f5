"""Files as they should be, each with a sentence of its own; and files with nothing in them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

from documents import mail, packed, workbook
from harm import packages, pdfs

_COUNT = 50
_EMPTY = (
    "docx", "pptx", "xlsx", "xls", "ods", "odt", "rtf", "epub", "eml", "ipynb", "csv", "tsv", "zip", "html",
    "pdf", "txt", "md", "rst", "py", "json", "jsonl", "txt.gz",
)  # fmt: skip


def files() -> Iterator[tuple[str, bytes]]:
    """By its number, each says `The keeper of harbour 17 is called ...`."""
    kinds = list(_KINDS.items())
    for number in range(_COUNT):
        ending, make = kinds[number % len(kinds)]
        yield f"harbour.{ending}", make(f"The keeper of harbour {number:02} is called Ada {number}.")


def empty() -> Iterator[tuple[str, bytes]]:
    """An empty file of each kind."""
    for ending in _EMPTY:
        yield f"empty.{ending}", b""


def _slides(text: str) -> bytes:
    from pptx import Presentation

    made, stream = Presentation(), io.BytesIO()
    slide = made.slides.add_slide(made.slide_layouts[1])
    slide.shapes.title.text, slide.placeholders[1].text = "Harbours", text
    made.save(stream)
    return stream.getvalue()


def _mail(text: str) -> bytes:
    message = mail(From="a@x.org")
    message.set_content(text)
    return bytes(message)


_KINDS: dict[str, Callable[[str], bytes]] = {
    "txt": str.encode,
    "md": lambda text: f"# Harbours\n\n{text}\n".encode(),
    "html": lambda text: f"<html><body><h1>Harbours</h1><p>{text}</p></body></html>".encode(),
    "csv": lambda text: f"Harbour,Said\nNorth,{text}\n".encode(),
    "docx": packages.word,
    "odt": packages.opendocument_text,
    "ods": packages.opendocument_sheet,
    "epub": packages.book,
    "rtf": packages.rich_text,
    "ipynb": packages.notebook,
    "pdf": pdfs.page,
    "xlsx": lambda text: workbook(("Harbours", [["Harbour", "Said"], ["North", text]], [])),
    "pptx": _slides,
    "eml": _mail,
    "zip": lambda text: packed({"a/said.txt": text}),
    "json": lambda text: f'{{"said": "{text}"}}\n'.encode(),
}
