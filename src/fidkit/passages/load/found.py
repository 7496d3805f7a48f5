"""A file as it was found, before anything but its name and its first passage was looked at."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal

from fidkit.passages.load.address import ObjectAddress
from fidkit.passages.load.rows import UnreadableFile, read_rows
from fidkit.passages.load.table import NAMED, Loader, loader_of
from fidkit.passages.load.table import Kind as ReadKind
from fidkit.passages.load.tsv import OtherHeader

Kind = Literal[ReadKind, "skipped"]

HIDDEN = "hidden"
ANOTHER_CORPUS = "a corpus, not a source of one"
DESCRIBES = "describes the passage files beside it"
OTHER = "not a kind of file that is read"
TEMPORARY = "kept by an editor while it has a document open"
LARGEST_DOCUMENT = 1 << 32
"""Bytes; whatever is larger can't be read within a worker's memory."""
TOO_LARGE = f"larger than {LARGEST_DOCUMENT / 1e6:,.0f} MB, the most that is read; split it"
_DESCRIPTIONS = {"README", "LICENSE", "LICENCE", "NOTICE", "CITATION", "COPYING", "CHANGELOG"}
_OPENED = "~$"  # what Word, Excel and PowerPoint put before the name of that document


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as found.

    Attributes:
        name: unique in the corpus.
        path: where it is.
        kind: what it is read as.
        size, mtime_ns: bytes, and when it was written. Of an object the digits below a second are those of
            its content, since stores know whole seconds.
        note: why a skipped file is skipped.
        named: given as a source itself, and not found in a folder: then it must be readable.
        inode, changed_ns: its number in the file system, and when the system last changed anything of it, its
            name included. 0 for an object, and where the system doesn't say.
    """

    name: str
    path: Path | ObjectAddress
    kind: Kind
    size: int = 0
    mtime_ns: int = 0
    note: str = ""
    named: bool = False
    inode: int = 0
    changed_ns: int = 0


def kind_of(name: str) -> tuple[Kind, str]:
    """What a file in a folder is read as, by its name alone, and why if it isn't."""
    if name.startswith("."):
        return "skipped", HIDDEN
    if name.startswith(_OPENED):
        return "skipped", TEMPORARY
    loader = loader_of(name)
    return ("skipped", OTHER) if loader is None else (loader.kind, "")


def loader_for(file: SourceFile) -> Loader:
    """What reads a file that was found."""
    return loader_of(file.name, None if file.kind == "skipped" else file.kind) or NAMED


def describes(name: str) -> bool:
    """Whether a document says what the files beside it are, as one comes along with a set of passages."""
    return name.split(".")[0].upper() in _DESCRIPTIONS


def passages_or_not(name: str, opened: Callable[[], BinaryIO]) -> tuple[Kind, str]:
    """A passage file, or what keeps it from being one, as far as its first row tells.

    A log is none, and the text beside it no description of it. A table of something else is a document.
    """
    try:
        with opened() as raw:
            problem = "" if list(islice(read_rows(raw, name), 1)) else "empty"
    except OtherHeader:
        return "document", ""
    except UnreadableFile as error:
        problem = error.reason
    except OSError as error:
        problem = (error.strerror or "unreadable").lower()
    return ("skipped" if problem else "passages"), problem


def told_apart_by(path: Path | ObjectAddress) -> str:
    """What is this file's alone, whatever links lead to it."""
    return str(path) if isinstance(path, ObjectAddress) else os.path.realpath(path)
