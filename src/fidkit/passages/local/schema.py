"""What the catalogue of a corpus may hold: its tables, and facts of the corpus as a whole that can be."""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from pathlib import Path

from fidkit.disk import shown
from fidkit.errors import CorpusError
from fidkit.passages.local.cuts import NUMBERS
from fidkit.passages.local.layout import FORMAT_VERSION, LEXICAL, VECTORS, WITHOUT_VECTORS
from fidkit.paths import is_plain_name

TABLES = (
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS files (
        file INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, path TEXT NOT NULL, kind TEXT NOT NULL,
        note TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL,
        position INTEGER NOT NULL, first_row INTEGER NOT NULL, passages INTEGER NOT NULL,
        sum BLOB NOT NULL, inode INTEGER NOT NULL DEFAULT 0, changed_ns INTEGER NOT NULL DEFAULT 0,
        tries INTEGER NOT NULL DEFAULT 0, tried_ns INTEGER NOT NULL DEFAULT 0)""",
    """CREATE TABLE IF NOT EXISTS passages (
        row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text TEXT NOT NULL,
        file INTEGER NOT NULL, document INTEGER, start INTEGER, end INTEGER)""",
    # What is long stands last: SQLite reads a row from its beginning.
    """CREATE TABLE IF NOT EXISTS documents (
        document INTEGER PRIMARY KEY, file INTEGER NOT NULL, member TEXT NOT NULL, title TEXT NOT NULL,
        facts TEXT NOT NULL, notes TEXT NOT NULL, map BLOB NOT NULL, boxes BLOB NOT NULL,
        text BLOB NOT NULL, UNIQUE (file, member))""",
)
ADDED_TO_FILES = ("inode", "changed_ns", "tries", "tried_ns")
"""Columns that a catalogue of this same format may lack; whoever writes to it adds them."""
ADDED = "INTEGER NOT NULL DEFAULT 0"
# Files without what was added, and passages of format 1, which had no documents.
FORMER_TABLES = (
    """CREATE TABLE IF NOT EXISTS files (
        file INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, path TEXT NOT NULL, kind TEXT NOT NULL,
        note TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL,
        position INTEGER NOT NULL, first_row INTEGER NOT NULL, passages INTEGER NOT NULL,
        sum BLOB NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS passages (
        row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text TEXT NOT NULL,
        file INTEGER NOT NULL, start INTEGER, end INTEGER)""",
)
_NUMBERS = (
    *("generation", "passages", "next_row", "next_file", "next_document"),
    *("removed_since_fresh", "unread"),
    *NUMBERS,
)
_NEEDED = {"sources", "passages", "fingerprint", "generation"}
_DIGITS = 18  # of a number that SQLite holds


class FormerFormat(CorpusError):
    """A corpus of an older format, to be built again from its `sources`."""

    def __init__(self, directory: Path, version: int, sources: str) -> None:
        super().__init__(
            f"{shown(directory)}: this corpus has format version {version}, this fidkit reads "
            f"{FORMAT_VERSION}; "
            f"run `fidkit corpus build SOURCE --to {shown(directory)}`"
        )
        self.version, self.sources = version, sources


def require_possible(meta: dict[str, str], directory: Path) -> None:
    """Refuse facts that no build of this format wrote.

    Raises:
        CorpusError: written by a newer version of the format, or damaged.
    """
    version = version_of(meta)
    if version < 0 or any(_whole(meta, name, 0) < 0 for name in _NUMBERS):
        raise damaged(directory, "impossible numbers")
    if meta and not meta.keys() >= _NEEDED and "lexical" in meta:
        raise damaged(directory, "facts are missing")
    for key, begins in (("lexical", LEXICAL), ("vectors", VECTORS)):
        name = meta.get(key, begins)
        if key == "vectors" and name in ("", WITHOUT_VECTORS):
            continue
        if not is_plain_name(name) or not name.startswith(begins):
            raise damaged(directory, f"its index can't be called {name!r:.99}")
    if version > FORMAT_VERSION:
        raise CorpusError(
            f"{shown(directory)}: this corpus has format version {version}, this fidkit reads up to "
            f"{FORMAT_VERSION}; upgrade fidkit, or build the corpus again in another directory"
        )


def vectors_of(meta: dict[str, str]) -> str | None:
    """Directory name of the vectors, if the state has any."""
    name = meta.get("vectors", "")
    return None if name in ("", WITHOUT_VECTORS) else name


def sources_of(meta: dict[str, str], directory: Path) -> list[str]:
    """What the corpus was built from, as `stored_path` made it.

    Raises:
        CorpusError: it doesn't say.
    """
    with suppress(KeyError, ValueError, RecursionError):
        sources = json.loads(meta["sources"])
        if isinstance(sources, list) and all(isinstance(source, str) for source in sources):
            return sources
    raise CorpusError(
        f"{shown(directory)}: its catalogue doesn't say what it was built from; run `fidkit corpus build "
        f"SOURCE --to {shown(directory)}`"
    )


def version_of(meta: dict[str, str]) -> int:
    """Of the format; -1 for what is no version."""
    return _whole(meta, "format_version", FORMAT_VERSION)


def _whole(meta: dict[str, str], name: str, default: int) -> int:
    """A whole number among the facts; -1 for what is none."""
    given = meta.get(name, str(default))
    return int(given) if given.isascii() and given.isdecimal() and len(given) <= _DIGITS else -1


class ChangedError(CorpusError):
    """What was read may be of two states."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            f"{shown(directory)}: a build wrote to it while it was read, in a directory where this user "
            "can't write and so takes no locks; ask again"
        )


def damaged(directory: Path, error: sqlite3.Error | str) -> CorpusError:
    """The error for a catalogue that can't be read."""
    return CorpusError(
        f"{shown(directory)}: its catalogue can't be read ({error}); delete the directory and build the "
        "corpus again"
    )
