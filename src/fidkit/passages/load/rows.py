"""Reads documents and passages out of files: unpacks them, and leaves the rest to their ending's loader."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import BinaryIO, cast

from fidkit.passages.load.cutting import WORDS, cut
from fidkit.passages.load.document import Document
from fidkit.passages.load.record import Row, UnreadableFile
from fidkit.passages.load.table import NAMED, PACKED, loader_of

__all__ = ["Row", "UnreadableFile", "read_documents", "read_rows", "rows_of"]


def read_rows(raw: BinaryIO, name: str) -> Iterator[Row]:
    """Passages of the file `name`, opened as `raw`, which stays open; `.gz` is unpacked on the way.

    A file whose ending says nothing is read as text.

    Raises:
        UnreadableFile: not what its ending says, or a broken archive; names the file, and the line if any.
    """
    if (loader_of(name) or NAMED).kind == "document":
        for document in read_documents(raw, name):
            yield from rows_of(document, name)
        return
    with unpacked(raw, name) as stream:
        yield from cast("Iterator[Row]", (loader_of(name) or NAMED).read(stream, name))


def read_documents(raw: BinaryIO, name: str) -> Iterator[Document]:
    """The documents of a file that isn't one of passages; otherwise as `read_rows`."""
    with unpacked(raw, name) as stream:
        yield from cast("Iterator[Document]", (loader_of(name) or NAMED).read(stream, name))


def rows_of(document: Document, name: str) -> Iterator[Row]:
    """Passages of a document, titled by its title, or its name's stem, and the heading that they stand under.

    Ids are `name#1`, `name#2`, ...

    Args:
        document: whole.
        name: of its file.
    """
    whole = source_of(name, document.member)
    title = document.title or _stem(whole)
    for number, piece in enumerate(cut(document, WORDS, 0), start=1):
        full = f"{title}: {piece.section}" if piece.section not in ("", title) else title
        text = document.text[piece.start : piece.end]
        yield Row(f"{whole}#{number}", full, text, piece.start, piece.end)


def source_of(name: str, member: str) -> str:
    """What a document is called: by its file, and which of the file's documents it is."""
    return f"{name}/{member}" if member else name


@contextmanager
def unpacked(raw: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """The stream that a loader of this name gets.

    Raises:
        UnreadableFile: in the block, for a broken archive.
    """
    stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if name.lower().endswith(PACKED) else raw
    try:
        yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        reason = f"expected a whole gzip file, but {error}"
        raise UnreadableFile(name, reason, "fetch or compress it again") from error


def _stem(name: str) -> str:
    path = PurePath(name)
    return path.with_suffix("").stem if path.suffix.lower() == PACKED else path.stem
