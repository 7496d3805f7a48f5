"""Documents as text and Markdown, cut into passages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import BinaryIO

from fidkit.passages.load.cutting import Piece, cut_markdown, cut_text, title_of
from fidkit.passages.load.record import Row, UnreadableFile

_REMEDY = "save it as text in UTF-8 or leave it out"


def read_text(stream: BinaryIO, name: str) -> Iterator[Row]:
    """Passages of a text, titled by the file's stem; ids are `name#1`, `name#2`, ...

    Offsets count characters of the file's bytes decoded as UTF-8. Line ends are not translated.

    Raises:
        UnreadableFile: binary, or not UTF-8.
    """
    return _passages(_decoded(stream, name), name, _stem(name), cut_text)


def read_markdown(stream: BinaryIO, name: str) -> Iterator[Row]:
    """Passages of Markdown, titled by the document's title and the section that they stand in.

    Otherwise as `read_text`.
    """
    document = _decoded(stream, name)
    return _passages(document, name, title_of(document) or _stem(name), cut_markdown)


def _decoded(stream: BinaryIO, name: str) -> str:
    try:
        document = stream.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableFile(name, "not UTF-8 text", _REMEDY) from error
    if "\0" in document:
        raise UnreadableFile(name, "binary, not text", _REMEDY)
    return document


def _passages(document: str, name: str, title: str, cut: Callable[[str], Iterator[Piece]]) -> Iterator[Row]:
    for number, piece in enumerate(cut(document), start=1):
        full = f"{title}: {piece.section}" if piece.section not in ("", title) else title
        yield Row(f"{name}#{number}", full, document[piece.start : piece.end], piece.start, piece.end)


def _stem(name: str) -> str:
    path = PurePath(name)
    return path.with_suffix("").stem if path.suffix.lower() == ".gz" else path.stem
