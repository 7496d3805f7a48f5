"""A passage in its surroundings, and the page that it is on: for the command line and the server alike."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, BinaryIO

from fidkit.errors import CorpusError, UsageError
from fidkit.passages.places import split
from fidkit.types import boxes_to_json

if TYPE_CHECKING:
    from fidkit.passages.load.document import Block
    from fidkit.passages.local.corpus import Corpus, StoredDocument
    from fidkit.passages.places import Where

_AROUND_CHARACTERS = 800
_SCALE = 2.0
"""Pixels a point of a picture."""


def found(corpus: Corpus, name: str) -> tuple[StoredDocument, tuple[int, int] | None]:
    """The document, and the characters that are asked for.

    Raises:
        CorpusError: no such document.
        UsageError: characters that it doesn't have.
    """
    span = None
    try:
        document = corpus.document(name)
    except CorpusError:
        bare, span = split(name)
        document = corpus.document(bare)
    length = len(document.text)
    if span and not span[0] < span[1] <= length:
        raise UsageError(
            f"{name}: characters {span[0]} to {span[1]} of a document that has {length:,}; expected two "
            f"numbers from 0 to {length}, the smaller first, as evidence has them"
        )
    return document, span


def surroundings(text: str, blocks: tuple[Block, ...], start: int, end: int) -> tuple[int, int]:
    """The paragraphs that hold a span, and one on either side, or as much of them as is shown."""
    if blocks:
        inside = [n for n, block in enumerate(blocks) if block.start < end and start < block.end]
        behind = [n for n, block in enumerate(blocks) if block.end <= start]
        first = min(inside, default=len(behind)) - 1
        last = max(inside, default=len(behind) - 1) + 1
        low = blocks[max(0, first)].start
        high = blocks[min(len(blocks) - 1, last)].end
    else:
        low, high = 0, len(text)
    low, high = min(low, start), max(high, end)
    if start - low > _AROUND_CHARACTERS:
        low = _after_space(text, start - _AROUND_CHARACTERS, start)
    if high - end > _AROUND_CHARACTERS:
        cut = text.rfind(" ", end, end + _AROUND_CHARACTERS)
        high = cut if cut > 0 else end + _AROUND_CHARACTERS
    return low, high


def _after_space(text: str, low: int, high: int) -> int:
    space = text.find(" ", low, high)
    return space + 1 if space >= 0 else low


def record_of(document: StoredDocument, span: tuple[int, int] | None, where: Where) -> dict[str, object]:
    """A span, what stands before and behind it, and where it is; all of a document without one."""
    record, text = document.record, document.text
    start, end = span or (0, len(text))
    low, high = surroundings(text, document.blocks, start, end)
    boxes = where.boxes if span else ()
    return {
        "source": record.source,
        "file": record.path,
        "title": record.title,
        "facts": record.facts,
        "notes": list(record.notes),
        "span": [start, end],
        "before": text[low:start],
        "text": text[start:end],
        "after": text[end:high],
        "where": where.labels(),
        "boxes": boxes_to_json(boxes),
    }


def picture(
    document: StoredDocument, span: tuple[int, int] | None, where: Where, scale: float = _SCALE
) -> tuple[int, bytes]:
    """The first page that the span is on, marked: its number, and a PNG.

    Raises:
        UsageError: not a span of a page of a PDF, or the file isn't the one that was read.
    """
    record = document.record
    if span is None or not where.boxes:
        raise UsageError(
            f"{record.source}: no page to make a picture of; expected characters of a PDF, such as "
            f"{record.source}:0-100"
        )
    if record.member:
        raise UsageError(
            f"{record.source}: is kept inside of another file; unpack it, and ask for its own picture"
        )
    page = where.boxes[0].page
    boxes = [box for box in where.boxes if box.page == page]
    with _as_it_was_read(record.path, record.sha256, record.source) as stream:
        try:
            from fidkit.passages.load.pdf import page_picture
        except ImportError as error:
            raise UsageError(
                f"a picture of a PDF's page needs {error.name}; get it with: pip install 'fidkit[documents]'"
            ) from error
        return page, page_picture(stream, page, boxes, scale)


def _as_it_was_read(path: str, sha256: str, source: str) -> BinaryIO:
    """The file, opened, if it is still the one that was read.

    Raises:
        UsageError: it is gone or another.
    """
    from fidkit.disk import found_again
    from fidkit.passages.load.address import is_in_store
    from fidkit.passages.load.rows import unpacked

    try:
        if is_in_store(path):
            from fidkit.passages.load.objects import opened

            with opened(path) as stored:
                packed = stored.read()
        else:
            packed = found_again(path).read_bytes()
    except OSError as error:
        raise UsageError(
            f"{source}: its file can't be read ({error.strerror}); a picture needs it"
        ) from error
    if hashlib.sha256(packed).hexdigest() != sha256:
        raise UsageError(
            f"{source}: its file was written to since it was read; build the corpus again, and ask again"
        )
    with unpacked(io.BytesIO(packed), path) as stream:
        return io.BytesIO(stream.read())
