"""What tests of loaders share: documents read and checked, files made and broken on purpose."""

import io
import random
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import BinaryIO

import pytest

from fidkit.passages.load.archive import read_archive
from fidkit.passages.load.delimited import read_table
from fidkit.passages.load.document import Document
from fidkit.passages.load.docx import read_docx
from fidkit.passages.load.epub import read_epub
from fidkit.passages.load.mailbox import read_mail_or_mailbox, read_mailbox
from fidkit.passages.load.notebook import read_notebook
from fidkit.passages.load.odp import read_odp
from fidkit.passages.load.ods import read_ods
from fidkit.passages.load.odt import read_odt
from fidkit.passages.load.pptx import read_pptx
from fidkit.passages.load.record import UnreadableFile
from fidkit.passages.load.rtf import read_rtf
from fidkit.passages.load.sheets import read_workbook

Read = Callable[[BinaryIO, str], Iterator[Document]]

READERS: dict[str, Read] = {
    ".docx": read_docx, ".pptx": read_pptx, ".xlsx": read_workbook, ".xls": read_workbook, ".ods": read_ods,
    ".odt": read_odt, ".odp": read_odp, ".epub": read_epub, ".rtf": read_rtf,
    ".ipynb": read_notebook, ".csv": read_table, ".tsv": read_table,
    ".eml": lambda stream, name: read_mail_or_mailbox(stream, name, reader_of),
    ".mbox": lambda stream, name: read_mailbox(stream, name, reader_of),
    ".zip": lambda stream, name: read_archive(stream, name, reader_of),
}  # fmt: skip

MARKDOWN = """---
title: The Harbour
author: Ada Berg
lang: en
---

# Ships

The *Aurora* sailed in 1901.^[She was rebuilt in 1910.] See [the list](http://x.org/list).

- first thing
- second thing

## Masts

| Ship | Masts | Built |
|------|------:|-------|
| Aurora | 3 | 1901 |
| Borealis | 4 | 1911 |

# Storms

A storm came.
"""


def reader_of(name: str) -> Read | None:
    return READERS.get("." + name.lower().rpartition(".")[2])


def read(data: bytes, name: str) -> list[Document]:
    """All documents, and what the record promises of each."""
    reader = reader_of(name)
    assert reader is not None
    documents = list(reader(io.BytesIO(data), name))
    assert len({document.member for document in documents}) == len(documents)
    for document in documents:
        document.text.encode()
        end = 0
        for block in document.blocks:
            assert end <= block.start < block.end <= len(document.text)
            assert not document.text[end : block.start].strip()
            end = block.end
        assert not document.text[end:].strip()
        assert all(0 <= place.start < place.end <= len(document.text) for place in document.places)
        assert [place.start for place in document.places] == sorted(place.start for place in document.places)
        assert not any("\n" in note for note in document.notes)
    return documents


def one(data: bytes, name: str) -> Document:
    (document,) = read(data, name)
    return document


def blocks(document: Document) -> list[tuple[str, str]]:
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def texts(document: Document) -> list[str]:
    return [text for _, text in blocks(document)]


def place(document: Document, kind: str, label: str) -> str:
    """The text of the only place of this kind and label, without the white space behind it."""
    (found,) = [place for place in document.places if (place.kind, place.label) == (kind, label)]
    return document.text[found.start : found.end].rstrip()


def packed(members: dict[str, str | bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def unpacked(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pandoc(ending: str, source: str = MARKDOWN) -> bytes:
    """Markdown as pandoc makes a file of it."""
    if shutil.which("pandoc") is None:
        pytest.skip("pandoc isn't installed")
    command = ["pandoc", "-s", "-f", "markdown", "-t", ending, "-o", "-"]
    return subprocess.run(command, input=source.encode(), capture_output=True, check=True).stdout


def office(data: bytes, name: str, ending: str, folder: Path) -> bytes:
    """A file as LibreOffice writes it in another format."""
    if shutil.which("soffice") is None:
        pytest.skip("LibreOffice isn't installed")
    source = folder / name
    source.write_bytes(data)
    home = f"-env:UserInstallation=file://{folder}/home"
    command = [
        "soffice",
        "--headless",
        home,
        "--convert-to",
        ending,
        "--outdir",
        str(folder / "out"),
        str(source),
    ]
    subprocess.run(command, capture_output=True, check=True, timeout=120)
    return (folder / "out" / source.with_suffix("." + ending.partition(":")[0]).name).read_bytes()


def broken(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """The file with 1, 10 and 100 of its bytes replaced, and cut off."""
    chance = random.Random(seed)
    for number in range(count):
        copy = bytearray(data)
        if number % 4 == 3:
            yield bytes(copy[: chance.randrange(len(copy))])
            continue
        for _ in range((1, 10, 100)[number % 4]):
            copy[chance.randrange(len(copy))] = chance.randrange(256)
        yield bytes(copy)


def broken_within(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """The archive whole, with one of its members broken."""
    members = unpacked(data)
    names = [name for name in members if name.endswith((".xml", ".rels", ".opf", ".xhtml", ".ncx"))]
    chance = random.Random(seed)
    for number in range(count):
        name = chance.choice(names)
        for worse in broken(members[name], 1, seed + number) if members[name] else ():
            yield packed({**members, name: worse})


def outcome(data: bytes, name: str) -> str:
    """What comes of a file that may be broken: documents, or the error for the person."""
    try:
        read(data, name)
    except UnreadableFile as error:
        return "unreadable" if error.reason and "\n" not in str(error) else f"said badly: {error}"
    return "read"


def presentation() -> bytes:
    """Two slides, with all that lies on such."""
    from pptx import Presentation
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE
    from pptx.util import Inches

    def box(shapes, text: str, left: float, top: float) -> None:
        shapes.add_textbox(Inches(left), Inches(top), Inches(2), Inches(0.5)).text_frame.text = text

    made = Presentation()
    made.core_properties.title, made.core_properties.author = "Ports", "Ada"
    slide = made.slides.add_slide(made.slide_layouts[1])
    box(slide.shapes, "right", 6, 5)
    box(slide.shapes, "left", 1, 5.1)
    title = slide.shapes.title
    title.text, title.left, title.top, title.width, title.height = "First", 0, Inches(6), Inches(1), Inches(1)
    slide.placeholders[1].text = "bullet a\nbullet b"
    group = slide.shapes.add_group_shape()
    box(group.shapes, "lower in a group", 1, 6.4)
    box(group.shapes, "upper in a group", 1, 5.8)
    slide.notes_slide.notes_text_frame.text = "say hello\nand bye"
    slide = made.slides.add_slide(made.slide_layouts[5])
    slide.shapes.title.text = "Numbers"
    slide._element.set("show", "0")
    table = slide.shapes.add_table(3, 2, Inches(1), Inches(2), Inches(4), Inches(2)).table
    for at, row in enumerate([["Port", "Masts"], ["Kiel", "3"], ["", "4"]]):
        for column, text in enumerate(row):
            table.cell(at, column).text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    data = CategoryChartData()
    data.categories = ["2023", "2024"]
    data.add_series("Kiel", (1.5, 2))
    data.add_series("Ulm", (3, 4))
    where = Inches(1), Inches(5), Inches(4), Inches(2)
    chart = slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *where, data).chart
    chart.has_title = True
    chart.chart_title.text_frame.text = "Growth"
    stream = io.BytesIO()
    made.save(stream)
    return stream.getvalue()


_SPACES = " ".join(
    f'xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{room}:1.0"'
    for short, room in {
        "office": "office", "draw": "drawing", "text": "text", "table": "table", "style": "style",
        "presentation": "presentation", "svg": "svg-compatible",
    }.items()
)  # fmt: skip


def opendocument_slides(*inner: str) -> bytes:
    """A presentation of OpenDocument with a slide for each."""
    pages = "".join(f'<draw:page draw:style-name="s{at}">{one}</draw:page>' for at, one in enumerate(inner))
    return packed(
        {
            "content.xml": f"""<office:document-content {_SPACES}>
<office:body><office:presentation>{pages}</office:presentation></office:body></office:document-content>"""
        }
    )


def workbook(*sheets) -> bytes:
    """A workbook of sheets, each a name, its rows and what is merged in it."""
    import openpyxl

    book, stream = openpyxl.Workbook(), io.BytesIO()
    book.remove(book.active)
    for name, rows, merged in sheets:
        sheet = book.create_sheet(name)
        for number, row in enumerate(rows, start=1):
            for column, value in enumerate(row, start=1):
                sheet.cell(number, column, value)
        for cells in merged:
            sheet.merge_cells(cells)
        if name == "Hidden":
            sheet.sheet_state = "hidden"
    book.save(stream)
    return stream.getvalue()


def mail(subject: str = "Über Häfen", **headers: str) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = subject
    for name, value in headers.items():
        message[name] = value
    return message
