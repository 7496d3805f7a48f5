"""Text of scanned pages and pictures, recognised by RapidOCR: an example of loaders for fidkit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, BinaryIO

from fidkit.passages.load.document import WITHOUT_TEXT, Box, Document, Writer
from fidkit.passages.load.pdf import read_pdf as read_text

if TYPE_CHECKING:
    import numpy as np
    from rapidocr import RapidOCR

_DPI = 200
_POINTS = 72


def read_picture(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A picture as a document of the lines on it."""
    import numpy as np
    from PIL import Image

    writer = Writer()
    with Image.open(stream) as picture:
        _write(writer, np.asarray(picture.convert("RGB"))[:, :, ::-1], page=1, scale=1.0)
    yield writer.document()


def read_pdf(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A PDF as fidkit reads it, and behind that its pages without text, as a document of their own."""
    (whole,) = read_text(stream, name)
    note = next((note for note in whole.notes if note.endswith(WITHOUT_TEXT)), "")
    others = tuple(other for other in whole.notes if other != note)
    if not note:
        yield whole
        return
    pages = _numbers(note)
    yield replace(whole, notes=(*others, f"text of pages recognised: {', '.join(map(str, pages))}"))
    import pypdfium2

    stream.seek(0)
    writer = Writer()
    pdf = pypdfium2.PdfDocument(stream.read())
    for number in pages:
        picture = pdf[number - 1].render(scale=_DPI / _POINTS).to_numpy()
        writer.begin("page", str(number))
        _write(writer, picture[:, :, :3], number, _POINTS / _DPI)
        writer.end()
    pdf.close()
    yield writer.document(whole.title, member="scanned pages")


def _numbers(note: str) -> list[int]:
    """Of the pages that a note is about: `pages 1, 3 to 5 and 9 have no text; ...`."""
    spans = re.findall(r"(\d+)(?: to (\d+))?", note)
    return [page for first, last in spans for page in range(int(first), int(last or first) + 1)]


def _write(writer: Writer, picture: np.ndarray, page: int, scale: float) -> None:
    """Write the lines on a picture [height, width, BGR], with a box a line, and a block a paragraph."""
    found = _engine()(picture)
    lines = [] if found.txts is None else list(zip(found.txts, found.boxes, strict=True))
    # Lines nearer than half their height belong together.
    starts: list[int] = []
    bottom = None
    for _, corners in lines:
        top, height = corners[:, 1].min(), corners[:, 1].max() - corners[:, 1].min()
        starts.append((starts[-1] if starts else 0) + (bottom is not None and top - bottom > height / 2))
        bottom = corners[:, 1].max()
    for _, group in groupby(zip(starts, lines, strict=True), key=lambda pair: pair[0]):
        start, text = len(writer), ""
        for _, (line, corners) in group:
            at = start + len(text)
            (left, top), (right, bottom) = (scale * corners.min(0)), (scale * corners.max(0))
            writer.boxes.append(Box(at, at + len(line), page, *map(float, (left, top, right, bottom))))
            text += f"{line}\n"
        writer.block(text.rstrip("\n"))


@cache
def _engine() -> RapidOCR:
    """The recogniser, on one thread: fidkit starts a process a processor."""
    import logging

    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    return RapidOCR(params={"EngineConfig.onnxruntime.intra_op_num_threads": 1,
                            "EngineConfig.onnxruntime.inter_op_num_threads": 1})  # fmt: skip
