"""A folder of many kinds of documents: how many of each, and in how many of them a fact stands."""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mixed import files, pdf
from mixed.prose import Fact, Piece, facts, pieces

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
        ending: of their names.
        count: how many of them.
        facts: how many of those hold one.
        write: makes one.
        through: the ending of what `write` makes, which LibreOffice converts; empty where it makes the file.
        parts: pieces of prose in one.
    """

    ending: str
    count: int
    facts: int
    write: files.Write
    through: str = ""
    parts: int = 1


KINDS = {
    "text": Kind("txt", 24, 1, files.write_text),
    "markdown": Kind("md", 14, 1, files.write_markdown),
    "restructuredtext": Kind("rst", 12, 1, files.by_pandoc("-s", "-t", "rst")),
    "web page": Kind("html", 16, 1, files.by_pandoc("-s", "-t", "html")),
    "pdf, one column": Kind("pdf", 20, 3, pdf.pdf_of(1), parts=3),
    "pdf, two columns": Kind("pdf", 16, 3, pdf.pdf_of(2), parts=3),
    "pdf, scanned": Kind("pdf", 8, 0, pdf.write_scan),
    "pdf, LibreOffice": Kind("pdf", 8, 1, files.write_paged_docx, "docx"),
    "word, pandoc": Kind("docx", 12, 1, files.by_pandoc("-t", "docx")),
    "word": Kind("docx", 12, 1, files.write_docx),
    "slides": Kind("pptx", 16, 2, files.write_slides),
    "workbook": Kind("xlsx", 16, 2, files.write_workbook),
    "ods": Kind("ods", 8, 1, files.write_workbook, "xlsx"),
    "csv": Kind("csv", 14, 1, files.by_delimiter(",")),
    "tsv": Kind("tsv", 10, 1, files.by_delimiter("\t")),
    "odt": Kind("odt", 12, 1, files.write_docx, "docx"),
    "rtf": Kind("rtf", 12, 1, files.write_docx, "docx"),
    "book": Kind("epub", 12, 2, files.by_pandoc("-t", "epub", kind="chapter")),
    "mail": Kind("eml", 14, 3, files.write_mail),
    "notebook": Kind("ipynb", 10, 1, files.write_notebook),
    "archive": Kind("zip", 8, 1, files.write_archive),
}
"""By folder. Source code and the project's own pages come on top."""
_CODE = 30
_PAGES = 12


def make(folder: Path, data: Path, seed: int) -> list[dict[str, Any]]:
    """Write the folder, which mustn't exist yet; where each fact stands."""
    folder.mkdir(parents=True)
    prose, places = pieces(data, seed), facts(1 + sum(kind.facts for kind in KINDS.values()), seed)
    truth = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, kind in KINDS.items():
            found = [places.pop() for _ in range(kind.facts)]
            truth += list(_kind(folder / name.replace(", ", "-"), kind, prose, found, Path(scratch), seed))
    truth += list(_own(folder, places.pop(), seed))
    for record in truth:
        record["source"] = str(Path(record["source"]).relative_to(folder))
    return truth


def _kind(
    folder: Path, kind: Kind, prose: Iterator[Piece], facts: list[Fact], scratch: Path, seed: int
) -> Iterator[dict[str, Any]]:
    """The files of a kind, in a folder of their own; the last ones hold the facts."""
    folder.mkdir()
    made = scratch / folder.name
    made.mkdir()
    for number in range(kind.count):
        piece = _joined([next(prose) for _ in range(kind.parts)])
        left = kind.count - number
        fact = facts[left - 1] if left <= len(facts) else None
        stem = f"{number:02} {re.sub(r'[^A-Za-z0-9]+', ' ', piece.title).strip()[:40]}"
        to = made if kind.through else folder
        path = to / f"{stem}.{kind.through or kind.ending}"
        member, where = kind.write(path, piece, fact, random.Random(f"{seed} {folder.name} {number}"))
        if fact:
            source = (folder / f"{stem}.{kind.ending}").joinpath(member)
            yield {**asdict(fact), "kind": folder.name, "source": str(source), "where": where}
    if kind.through:
        files.convert(sorted(made.iterdir()), kind.ending, folder, scratch / "home")


def _joined(parts: list[Piece]) -> Piece:
    return Piece(parts[0].title, tuple(section for part in parts for section in part.sections))


def _own(folder: Path, fact: Fact, seed: int) -> Iterator[dict[str, Any]]:
    """Source code of the project, and its pages."""
    (folder / "code").mkdir()
    (folder / "pages").mkdir()
    sources = sorted((ROOT / "src" / "fidkit").rglob("[a-z]*.py"))
    for number, source in enumerate(random.Random(seed).sample(sources, _CODE)):
        path = folder / "code" / f"{number:02} {source.name}"
        files.write_code(path, source.read_text(encoding="utf-8"), fact if number == 7 else None)
        if number == 7:
            yield {**asdict(fact), "kind": "code", "source": str(path), "where": {}}
    for page in sorted((ROOT / "docs").glob("*.md"))[:_PAGES]:
        (folder / "pages" / page.name).write_bytes(page.read_bytes())
