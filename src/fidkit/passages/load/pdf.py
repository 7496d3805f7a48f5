"""Documents as PDF: text in the order of reading, with the page and the rectangle of every word."""

from __future__ import annotations

import logging
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from fidkit.errors import UsageError
from fidkit.passages.load.composed import Style, write_page
from fidkit.passages.load.document import WITHOUT_TEXT, Box, Document, Place, Writer
from fidkit.passages.load.glyphs import Page, page_of, view_of
from fidkit.passages.load.record import UnreadableFile
from fidkit.passages.load.repeated import repeated

if TYPE_CHECKING:
    from pypdfium2 import PdfBookmark, PdfDocument

_ENCRYPTED = "encrypted, and it needs a password"
_UNLOCK = "save a copy without the password (print it to a file, or `qpdf --decrypt`) and give that"
_MEND = "open it in a viewer and save it anew, or leave it out"

# A page tree may promise any number of pages. After so many that aren't there, no more are asked for.
_MISSING_PAGES = 100
_HEAD = 1024
_UNNAMED = 0.3
"""From this proportion of characters that fonts don't name, a page's text is said to be wrong."""
_MOST_BOOKMARKS = 10_000

# What programs write where nobody has given a title or an author.
_NO_NAME = re.compile(
    r"\(?(?:anonymous|unspecified|unknown)\)?|(?:untitled|unbenannt|sans titre)\b.*|"
    r"(?:microsoft (?:word|powerpoint|excel)|powerpoint)\b.*|"
    r"(?:slide|page|document|dokument|presentation|title|titel) ?\d*|.*\.[a-z]{2,5}\d?|[\W\d_]*",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(?:D:)?(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(\d\d)(\d\d)?(?:(Z)|([+-])(\d\d)'?(\d\d)?)?)?)?)?"
)

_NOWHERE = logging.NullHandler()

_MOST_PIXELS = 40_000_000
_MARK = np.array([255, 226, 110], np.uint16)
"""The colour of marked words, as that of a felt pen: what was dark stays dark."""


def read_pdf(stream: BinaryIO, name: str) -> Iterator[Document]:
    """The document of a PDF.

    Text is page after page, each in the order of reading, column by column. Blocks are headings, paragraphs,
    items, and what pages repeat; places are pages, and chapters by the outline. Each word has a box, one
    that a line's end parts has two. What is missing is in `notes`: pages without text, pages that can't be
    read, words outside of what is shown, fonts that don't say which characters they draw.

    Raises:
        UnreadableFile: not a PDF, damaged, without pages, or it needs a password.
    """
    with _opened(stream, name) as (pdf, cut_off):
        notes = ["its end is missing; so may pages be"] if cut_off else []
        pages = list(_pages(pdf, name, notes))
        style = Style(pages)
        edges = repeated(pages, style.body)
        if not any(page.words or page.drawn for page in pages):
            notes.append("it has no text, and nothing else is drawn on its pages")
        writer = Writer()
        begins = []
        for at, page in enumerate(pages):
            begins.append((len(writer), len(writer.boxes)))
            write_page(writer, page, at + 1, edges[at], style)
            # Each word is an object; those of a long document are let go as soon as they are written.
            page.words.clear()
        begins.append((len(writer), len(writer.boxes)))
        document = writer.document()
        writer.places += _chapters(pdf, document, begins)
        title = _fact(pdf, "Title")
        yield writer.document(
            "" if _NO_NAME.fullmatch(title) else title, facts=_facts(pdf), notes=tuple(notes)
        )


@contextmanager
def _opened(stream: BinaryIO, name: str) -> Iterator[tuple[PdfDocument, bool]]:
    """The PDF, and whether its end is missing."""
    import pypdfium2

    # What it finds odd in an outline is of no use to anybody, and would go to the terminal.
    logging.getLogger("pypdfium2").addHandler(_NOWHERE)
    content = stream.read()
    if not content.strip(b"\0 \r\n\t"):
        raise UnreadableFile(name, "empty, expected a PDF", "leave it out or get it again")
    try:
        pdf = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise UnreadableFile(name, _ENCRYPTED, _UNLOCK) from error
        if error.err_code == pypdfium2.raw.FPDF_ERR_SECURITY:
            raise UnreadableFile(name, "encrypted in a way that isn't known", _UNLOCK) from error
        if b"%PDF-" not in content[:_HEAD]:
            raise UnreadableFile(name, "not a PDF", "name it by what it is, or leave it out") from error
        raise UnreadableFile(name, "a PDF that is damaged or cut off", _MEND) from error
    try:
        if not len(pdf):
            raise UnreadableFile(name, "a PDF without pages; it may be damaged or cut off", _MEND)
        yield pdf, b"%%EOF" not in content[-_HEAD:]
    finally:
        pdf.close()


def _pages(pdf: PdfDocument, name: str, notes: list[str]) -> Iterator[Page]:
    """All pages; what a person has to know of them is added to the notes."""
    from pypdfium2 import PdfiumError

    lost: list[int] = []
    empty: list[int] = []
    unnamed: list[int] = []
    hidden: list[int] = []
    missing = 0
    count = len(pdf)
    for number in range(1, count + 1):
        page = Page([], 0.0, 0.0, drawn=False)
        try:
            handle = pdf[number - 1]
            try:
                page = page_of(handle)
            finally:
                handle.close()
            missing = 0
        except PdfiumError:
            lost.append(number)
            missing += 1
        if page.drawn and not page.words and not page.hidden:
            empty.append(number)
        if page.unknown > _UNNAMED:
            unnamed.append(number)
        if page.hidden:
            hidden.append(number)
        yield page
        if missing == _MISSING_PAGES:
            lost += range(number + 1, count + 1)
            break
    if len(lost) == count:
        raise UnreadableFile(name, "none of its pages can be read", _MEND)
    for numbers, one, many in (
        (lost, "can't be read", "can't be read"),
        (empty, *WITHOUT_TEXT),
        (unnamed, "has a font without names of characters; its text may be wrong",
         "have fonts without names of characters; their text may be wrong"),
        (hidden, "has words outside of what it shows, which are left out",
         "have words outside of what they show, which are left out"),
    ):  # fmt: skip
        if numbers:
            notes.append(f"{_named(numbers)} {many if len(numbers) > 1 else one}")


def _named(numbers: Sequence[int]) -> str:
    """Pages as a person names them: `page 4`, `pages 1, 3 to 9 and 12`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    if len(numbers) == 1:
        return f"page {numbers[0]}"
    said = [" to ".join(map(str, span)) for span in spans]
    return "pages " + (f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else said[0])


def _fact(pdf: PdfDocument, key: str) -> str:
    """What a PDF says of itself, on one line."""
    try:
        return " ".join(pdf.get_metadata_value(key).replace("\0", "").split())
    except UnicodeDecodeError:
        return ""


def _facts(pdf: PdfDocument) -> dict[str, str]:
    date = _date(_fact(pdf, "CreationDate")) or _date(_fact(pdf, "ModDate"))
    author = _fact(pdf, "Author")
    facts = {"author": "" if _NO_NAME.fullmatch(author) else author, "date": date}
    return {key: value for key, value in facts.items() if value}


def _date(written: str) -> str:
    """A PDF's date in ISO 8601, as far as it goes; empty for what is none."""
    match = _DATE.match(written)
    if not match or not match.group(2):
        return match.group(1) if match else ""
    year, month, day, hour, minute, second, utc, sign, hours, minutes = match.groups()
    date = "-".join(part for part in (year, month, day) if part)
    if not 1 <= int(month) <= 12 or (day and not 1 <= int(day) <= 31):
        return ""
    if not hour:
        return date
    zone = "Z" if utc else f"{sign}{hours}:{minutes or '00'}" if sign else ""
    return f"{date}T{hour}:{minute}:{second or '00'}{zone}"


def _chapters(pdf: PdfDocument, document: Document, begins: Sequence[tuple[int, int]]) -> list[Place]:
    """Places of the outline: each chapter goes on to the next one of its level or a higher one.

    Args:
        pdf: with its outline.
        document: text, blocks and boxes.
        begins: for each page and behind the last, the first character and the first box.
    """
    marks: list[tuple[int, int, str]] = []
    for bookmark in pdf.get_toc():
        try:
            title = " ".join(bookmark.get_title().split())
        except UnicodeDecodeError:
            continue
        start = _start(pdf, bookmark, title, document, begins)
        if title and start is not None:
            marks.append((start, bookmark.level, title))
        if len(marks) == _MOST_BOOKMARKS:
            break
    marks.sort(key=lambda mark: mark[:2])
    places = []
    open_marks: list[tuple[int, int, str]] = []
    for mark in [*marks, (len(document.text), 0, "")]:
        while open_marks and open_marks[-1][1] >= mark[1]:
            start, _, title = open_marks.pop()
            if start < mark[0]:
                places.append(Place(start, mark[0], "chapter", title))
        open_marks.append(mark)
    return places


def _start(
    pdf: PdfDocument,
    bookmark: PdfBookmark,
    title: str,
    document: Document,
    begins: Sequence[tuple[int, int]],
) -> int | None:
    """Where a chapter begins: at the block that has its title, else at the first word below its mark."""
    import pypdfium2.raw as raw

    target = bookmark.get_dest()
    page = None if target is None else target.get_index()
    if target is None or page is None or page + 1 >= len(begins):
        return None
    (start, box), (end, last) = begins[page : page + 2]
    words = re.compile(r"\s+".join(map(re.escape, title.split())), re.IGNORECASE)
    for block in document.blocks:
        near = start <= block.start < end and block.end - block.start < 2 * len(title) + 20
        if near and block.kind != "repeated" and words.search(document.text, block.start, block.end):
            return block.start
    mode, view = target.get_view()
    height = {raw.PDFDEST_VIEW_XYZ: 1, raw.PDFDEST_VIEW_FITH: 0, raw.PDFDEST_VIEW_FITBH: 0}.get(mode)
    if height is not None and height < len(view):
        handle = pdf[page]
        _, top = view_of(handle).point(0.0, view[height])
        handle.close()
        below = (mark.start for mark in document.boxes[box:last] if mark.top > top - 3)
        return next(below, start)
    return start


def page_picture(stream: BinaryIO, page: int, marked: Sequence[Box], scale: float = 2.0) -> bytes:
    """A page of a PDF as a PNG, with boxes marked as by a felt pen.

    Args:
        stream: the PDF.
        page: counted from 1.
        marked: boxes, of which those of the page are marked; words beside one another are joined.
        scale: pixels a point; fewer where the picture would have more than 40 million.

    Raises:
        UnreadableFile: not a PDF, damaged, or it needs a password; the page can't be drawn.
        UsageError: no such page.
    """
    from pypdfium2 import PdfiumError

    with _opened(stream, "the PDF") as (pdf, _):
        if not 1 <= page <= len(pdf):
            raise UsageError(f"expected a page from 1 to {len(pdf)}, got {page}")
        try:
            handle = pdf[page - 1]
            width, height = handle.get_size()
            scale = min(scale, (_MOST_PIXELS / max(width * height, 1.0)) ** 0.5)
            bitmap = handle.render(scale=scale, rev_byteorder=True)
        except PdfiumError as error:
            raise UnreadableFile("the PDF", f"page {page} can't be drawn", _MEND) from error
        pixels = bitmap.to_numpy().copy()
    for left, top, right, bottom in _strokes([box for box in marked if box.page == page]):
        rows = slice(max(0, round(top * scale)), max(0, round(bottom * scale)))
        area = pixels[rows, max(0, round(left * scale)) : max(0, round(right * scale)), :3]
        area[:] = area * _MARK // 255
    return _png(pixels[:, :, :3])


def _strokes(boxes: Sequence[Box]) -> list[tuple[float, float, float, float]]:
    """Rectangles of words, those that stand beside one another as one."""
    strokes: list[tuple[float, float, float, float]] = []
    for box in sorted(boxes, key=lambda box: box.start):
        if strokes:
            left, top, right, bottom = strokes[-1]
            height = min(bottom - top, box.bottom - box.top)
            shared = min(bottom, box.bottom) - max(top, box.top)
            gap = max(box.left - right, left - box.right)
            if shared > 0.5 * height and gap < height:
                strokes[-1] = (
                    min(left, box.left),
                    min(top, box.top),
                    max(right, box.right),
                    max(bottom, box.bottom),
                )
                continue
        strokes.append((box.left, box.top, box.right, box.bottom))
    return strokes


def _png(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    """A picture [height, width, 3] as a PNG."""
    height, width, _ = pixels.shape
    # Text is smallest with rows as they are (filter 0), and hardly smaller at higher levels.
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = zlib.compress(rows.tobytes(), 3)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")
