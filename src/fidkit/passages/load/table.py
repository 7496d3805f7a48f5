"""The kinds of files that passages are read from, by their endings, in this one place.

A new kind of file is a file in this folder with a function that reads it, and a line in `LOADERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from fidkit.passages.load.document import Document
from fidkit.passages.load.jsonl import read_jsonl
from fidkit.passages.load.record import Row
from fidkit.passages.load.text import read_markdown, read_text
from fidkit.passages.load.tsv import read_tsv

Kind = Literal["document", "passages"]
"""A document is cut into passages; a passage file holds passages that were cut before."""

PACKED = ".gz"
"""May follow each ending."""


@dataclass(frozen=True, slots=True)
class Loader:
    """How a kind of file is read.

    Attributes:
        kind: what such a file is.
        read: its passages or documents, from a binary stream and the file's name. Raises `UnreadableFile`
            where the file isn't what its ending says.
        apart: it is read in a process of its own (`fidkit.passages.load.workers`), since what reads it may
            crash, hang or take all memory: everything but plain text.
    """

    kind: Kind
    read: Callable[[BinaryIO, str], Iterator[Row] | Iterator[Document]]
    apart: bool = False


LOADERS = {
    ".txt": Loader("document", read_text),
    ".md": Loader("document", read_markdown),
    ".markdown": Loader("document", read_markdown),
    ".jsonl": Loader("passages", read_jsonl),
    ".tsv": Loader("passages", read_tsv),
}

NAMED = LOADERS[".txt"]
"""Reads a file of any other ending that is named as a source."""


def loader_of(name: str) -> Loader | None:
    """The loader for a file of this name; None where its ending isn't in the table."""
    plain = name.lower().removesuffix(PACKED)
    return next((loader for ending, loader in LOADERS.items() if plain.endswith(ending)), None)


def endings(kind: Kind) -> str:
    """The endings of a kind, as a list in words: `.txt, .md or .markdown`."""
    found = [ending for ending, loader in LOADERS.items() if loader.kind == kind]
    *most, last = found
    return f"{', '.join(most)} or {last}" if most else last


def described() -> str:
    """All that can be read, in words, for messages, help and documents."""
    return (
        f"documents ({endings('document')}, in UTF-8) or passage files ({endings('passages')}), "
        f"packed or not ({PACKED})"
    )
