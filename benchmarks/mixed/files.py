"""Writes documents with the tools that people have, and says where a fact stands in each."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import subprocess
import zipfile
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from pathlib import Path

from mixed.prose import Fact, Piece

Where = dict[str, str]
Written = tuple[str, Where]
"""The member that holds the fact (empty for the file itself), and its place there."""
Write = Callable[[Path, Piece, Fact | None, random.Random], Written]

_HEADER = ("Date", "Place", "Tons", "Remark")
_ENDLESS = dict(os.environ, SOURCE_DATE_EPOCH="1700000000", TZ="UTC")


def write_text(path: Path, piece: Piece, fact: Fact | None, chance: random.Random) -> Written:
    """Plain text, as it is."""
    section = chance.randrange(len(piece.sections))
    path.write_text((piece.with_fact(fact, section) if fact else piece).text(), encoding="utf-8")
    return "", {}


def by_pandoc(*options: str, kind: str = "heading") -> Write:
    """What pandoc makes of Markdown; a section has a heading, or is a chapter of a book."""

    def write(path: Path, piece: Piece, fact: Fact | None, chance: random.Random) -> Written:
        section = chance.randrange(len(piece.sections))
        source = (piece.with_fact(fact, section) if fact else piece).markdown().partition("\n")[2]
        command = ["pandoc", "-f", "markdown", "--shift-heading-level-by=-1", *options, "-o", str(path)]
        command += ["-M", f"title={piece.title}"]
        subprocess.run(command, input=source.encode(), check=True, env=_ENDLESS)
        return "", {kind: piece.sections[section][0]}

    return write


def write_markdown(path: Path, piece: Piece, fact: Fact | None, chance: random.Random) -> Written:
    """Markdown as a person types it."""
    section = chance.randrange(len(piece.sections))
    path.write_text((piece.with_fact(fact, section) if fact else piece).markdown(), encoding="utf-8")
    return "", {"heading": piece.sections[section][0]}


def write_docx(path: Path, piece: Piece, fact: Fact | None, chance: random.Random) -> Written:
    """Word, with a page a section and a table in each; the fact stands in a cell."""
    from docx import Document

    document, section = Document(), chance.randrange(len(piece.sections))
    document.core_properties.title = piece.title
    document.add_heading(piece.title, 0)
    for number, (heading, paragraphs) in enumerate(piece.sections):
        document.add_heading(heading, 1)
        for paragraph in paragraphs:
            document.add_paragraph(paragraph)
        table = document.add_table(rows=0, cols=3)
        for row in (
            ("Place", "Tons", "Remark"),
            *_rows(piece, chance, 3, fact if number == section else None),
        ):
            for cell, text in zip(table.add_row().cells, row[-3:], strict=True):
                cell.text = str(text)
    document.save(str(path))
    return "", {"heading": piece.sections[section][0]}


def write_paged_docx(path: Path, piece: Piece, fact: Fact | None, chance: random.Random) -> Written:
    """Word with a page a section, whose number is known whoever prints it."""
    from docx import Document

    document, section = Document(), chance.randrange(len(piece.sections))
    for number, (heading, paragraphs) in enumerate(piece.sections):
        if number:
            document.add_page_break()
        document.add_heading(heading, 1)
        document.add_paragraph(" ".join(" ".join(paragraphs).split()[:200]))
        if fact and number == section:
            document.add_paragraph(fact.sentence)
    document.save(str(path))
    return "", {"page": str(section + 1)}


def write_slides(path: Path, piece: Piece, fact: Fact | None, chance: random.Random) -> Written:
    """PowerPoint: two slides a section, the second with a note."""
    from pptx import Presentation

    made, slides = Presentation(), 2 * len(piece.sections)
    chosen = chance.randrange(slides)
    for number in range(slides):
        heading, paragraphs = piece.sections[number // 2]
        slide = made.slides.add_slide(made.slide_layouts[1])
        slide.shapes.title.text = heading
        points = [" ".join(paragraph.split()[:25]) for paragraph in paragraphs[number % 2 :: 2]]
        points += [fact.sentence] if fact and number == chosen else []
        slide.placeholders[1].text = "\n".join(points)
        if number % 2:
            slide.notes_slide.notes_text_frame.text = paragraphs[0]
    made.save(str(path))
    return "", {"slide": str(chosen + 1)}


def write_workbook(path: Path, piece: Piece, fact: Fact | None, chance: random.Random) -> Written:
    """Excel: three sheets of rows with numbers, dates and remarks."""
    from openpyxl import Workbook

    book, chosen, where = Workbook(), chance.randrange(3), {}
    book.remove(book.active)
    for number, name in enumerate(("Arrivals", "Stores", "Journal")):
        sheet = book.create_sheet(name)
        rows = _rows(piece, chance, 40, fact if number == chosen else None)
        for row in (_HEADER, *rows):
            sheet.append(row)
        if number == chosen:
            where = {"sheet": name, "row": _row_of(rows, fact)}
    book.save(path)
    return "", where


def by_delimiter(delimiter: str) -> Write:
    """A table of cells with commas or tabs."""

    def write(path: Path, piece: Piece, fact: Fact | None, chance: random.Random) -> Written:
        rows = _rows(piece, chance, 60, fact)
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows((_HEADER, *rows))
        return "", {"row": _row_of(rows, fact)}

    return write


def _rows(piece: Piece, chance: random.Random, count: int, fact: Fact | None) -> list[tuple[object, ...]]:
    remarks = [chance.choice(piece.sentences()) for _ in range(count)]
    if fact:
        remarks[chance.randrange(count)] = fact.sentence
    places = ("North quay", "South quay", "The mill", "Tannery yard")
    return [
        (f"19{chance.randrange(10, 60)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}",
         chance.choice(places), chance.randrange(2, 400) / 4, remark)
        for remark in remarks
    ]  # fmt: skip


def _row_of(rows: Sequence[tuple[object, ...]], fact: Fact | None) -> str:
    """As a spreadsheet counts, the header first."""
    return next((str(n) for n, row in enumerate(rows, start=2) if fact and row[-1] == fact.sentence), "")


def write_notebook(path: Path, piece: Piece, fact: Fact | None, chance: random.Random) -> Written:
    """Jupyter: Markdown and code in turns."""
    section = chance.randrange(len(piece.sections))
    piece = piece.with_fact(fact, section) if fact else piece
    cells: list[dict[str, object]] = []
    for number, (heading, paragraphs) in enumerate(piece.sections):
        cells.append(
            {"cell_type": "markdown", "metadata": {}, "source": "\n\n".join((f"## {heading}", *paragraphs))}
        )
        printed = {"output_type": "stream", "name": "stdout", "text": f"{number} done\n"}
        cells.append({"cell_type": "code", "metadata": {}, "execution_count": number, "outputs": [printed],
                      "source": f"weights_{number} = load({number})\nprint('{number} done')"})  # fmt: skip
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook, indent=1), encoding="utf-8")
    return "", {"cell": str(2 * section + 1)}


def write_mail(path: Path, piece: Piece, fact: Fact | None, chance: random.Random) -> Written:
    """A mail whose attachments are Word, PDF and a table; the fact stands in one of the four."""
    from mixed.pdf import pdf_of

    message, chosen = EmailMessage(), chance.choice(("", "minutes.docx", "plan.pdf", "stores.csv"))
    message["From"], message["To"] = "Ada Berg <ada@harbour.example>", "Office <office@harbour.example>"
    message["Subject"], message["Date"] = piece.title, "Tue, 04 Mar 2025 09:30:00 +0000"
    heading, paragraphs = piece.sections[0]
    body = (heading, *paragraphs, *([fact.sentence] if fact and not chosen else []))
    message.set_content("\n\n".join(body))
    where: Where = {}
    for name, write in (
        ("minutes.docx", write_docx),
        ("plan.pdf", pdf_of(1)),
        ("stores.csv", by_delimiter(",")),
    ):
        part = path.with_name(f"{path.stem}-{name}")
        _, found = write(part, piece, fact if name == chosen else None, chance)
        where = found if name == chosen else where
        subtype = {"docx": "vnd.openxmlformats-officedocument.wordprocessingml.document"}.get(
            name[-4:], name[-3:]
        )
        message.add_attachment(part.read_bytes(), "text" if name[-3:] == "csv" else "application", subtype,
                               filename=name)  # fmt: skip
        part.unlink()
    path.write_bytes(bytes(message))
    return chosen, where if chosen else {"part": "1"}


def write_archive(path: Path, piece: Piece, fact: Fact | None, chance: random.Random) -> Written:
    """A zip file with folders: Markdown, Word, slides and what is no document."""
    members = {
        "notes/read me.md": write_markdown,
        "notes/minutes.docx": write_docx,
        "slides.pptx": write_slides,
    }
    where: dict[str, str] = {}
    chosen = chance.choice(list(members))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, write in members.items():
            part = path.with_name(f"{path.stem}-{name.rpartition('/')[2]}")
            _, found = write(part, piece, fact if name == chosen else None, chance)
            where = found if name == chosen else where
            archive.writestr(zipfile.ZipInfo(name, (2025, 3, 4, 9, 30, 0)), part.read_bytes())
            part.unlink()
        archive.writestr(zipfile.ZipInfo("logo.bin", (2025, 3, 4, 9, 30, 0)), bytes(range(256)))
    return chosen, where


def write_code(path: Path, source: str, fact: Fact | None) -> Written:
    """Source code of the project; the fact is a comment in front of its last function."""
    lines = source.splitlines(keepends=True)
    if fact:
        last = max((n for n, line in enumerate(lines) if line.startswith("def ")), default=len(lines))
        lines.insert(last, f"# {fact.sentence}\n")
    path.write_text("".join(lines), encoding="utf-8")
    return "", {}


def convert(files: Sequence[Path], ending: str, to: Path, home: Path) -> None:
    """Files as LibreOffice writes them in another format, into a folder."""
    command = ["soffice", "--headless", f"-env:UserInstallation=file://{home}", "--convert-to", ending]
    command += ["--outdir", str(to), *map(str, files)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600)
    missing = [file.name for file in files if not (to / file.with_suffix(f".{ending}").name).exists()]
    if missing:
        raise RuntimeError(f"LibreOffice made no {ending} of {', '.join(missing)}")


def picture(lines: Sequence[str]) -> bytes:
    """A page with some lines, as a picture (PNG)."""
    from PIL import Image, ImageDraw

    page = Image.new("L", (1240, 1754), 255)
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(lines[:70]):
        pen.text((120, 120 + 22 * number), line, fill=20)
    stream = io.BytesIO()
    page.save(stream, "PNG")
    return stream.getvalue()
