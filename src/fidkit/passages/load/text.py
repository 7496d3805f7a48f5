"""Documents as text and Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from fidkit.passages.load.cutting import title_of
from fidkit.passages.load.document import Block, Document
from fidkit.passages.load.record import UnreadableFile

_REMEDY = "save it as text in UTF-8 or leave it out"


def read_text(stream: BinaryIO, name: str) -> Iterator[Document]:
    """The text as one document, without a title.

    Offsets count characters of the file's bytes decoded as UTF-8. Line ends are not translated.

    Raises:
        UnreadableFile: binary, or not UTF-8.
    """
    yield Document("", _decoded(stream, name))


def read_markdown(stream: BinaryIO, name: str) -> Iterator[Document]:
    """Markdown as one document with its title. Otherwise as `read_text`."""
    text = _decoded(stream, name)
    blocks = (Block(0, len(text)),) if text.strip() else ()
    yield Document(title_of(text), text, blocks)


def _decoded(stream: BinaryIO, name: str) -> str:
    try:
        document = stream.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableFile(name, "not UTF-8 text", _REMEDY) from error
    if "\0" in document:
        raise UnreadableFile(name, "binary, not text", _REMEDY)
    return document
