"""Reads passages out of files: unpacks, leaves the rest to the loader of the ending, cuts documents."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from fidkit.passages.load.cutting import WORDS, cut
from fidkit.passages.load.document import Document
from fidkit.passages.load.headings import called, first_line
from fidkit.passages.load.outline import stem
from fidkit.passages.load.prose import flat
from fidkit.passages.load.record import Row, UnreadableFile
from fidkit.passages.load.table import NAMED, PACKED, loader_of

__all__ = ["Row", "UnreadableFile", "passages_of", "read_rows", "source_of", "unpacked"]


def read_rows(raw: BinaryIO, name: str, words: int = WORDS, overlap: int = 0) -> Iterator[Row]:
    """Passages of the file `name`, opened as `raw`, which stays open; `.gz` is unpacked on the way.

    A file whose ending says nothing is read as text. Documents are cut into passages of about `words` words,
    of which `overlap` at most are repeated from the passage before.

    Raises:
        UnreadableFile: not what its ending says, a broken archive, or of a kind whose extra isn't installed;
            names the file, and the line if any.
    """
    loader = loader_of(name) or NAMED
    with unpacked(raw, name) as stream:
        if loader.kind == "passages":
            yield from loader.passages(stream, name)
            return
        for document in loader.documents(stream, name):
            yield from passages_of(document, name, words, overlap)


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


def source_of(name: str, member: str) -> str:
    """What a document is called: by its file, and which of the file's documents it is."""
    return f"{name}/{member}" if member else name


def names_of(source: str) -> Iterator[tuple[str, str]]:
    """What may be the file and the member of a document that is called so; the longest file first."""
    name, member = source, ""
    while name:
        yield name, member
        name, _, more = name.rpartition("/")
        member = f"{more}/{member}" if member else more


def passages_of(document: Document, name: str, words: int = WORDS, overlap: int = 0) -> Iterator[Row]:
    """A document's passages, with ids `name#1`, `name#2`, or `name/member#1` for a member of a file.

    They are titled by the document's title, or else its name and what it begins with, and the section that
    they stand in.
    """
    whole = source_of(name, document.member)
    title = flat(document.title)
    line = "" if title else _first_line(document)
    title = title or called(stem(document.member or name), line)
    for number, piece in enumerate(cut(document, words, overlap), start=1):
        section = flat(piece.section)
        full = title if section in ("", title, line) else f"{title}: {section}"
        yield Row(f"{whole}#{number}", full, document.text[piece.start : piece.end], piece.start, piece.end)


def _first_line(document: Document) -> str:
    """What tells a document from others, whose files are often named by their kind alone (`manual.txt`)."""
    first = document.blocks[0] if document.blocks else None
    if first is None or first.kind not in ("heading", "paragraph"):
        return ""
    paragraph = document.text[first.start : first.end]
    alone = len(document.blocks) == 1 and "\n" not in paragraph
    return "" if alone else first_line(paragraph)
