"""SQLite files of ours, opened as if a stranger had made them.

A database can hold more than rows. Triggers and views are code that runs when a table is used, and a
journal may name another file, which SQLite deletes when it has rolled the journal back. So a file is opened
only where it is a file, its journal names nothing, and its tables are exactly those that are expected.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from fidkit.disk import shown
from fidkit.errors import FidkitError
from fidkit.paths import is_own_file

C = TypeVar("C", bound=sqlite3.Connection)

_BESIDE = ("", "-wal", "-shm", "-journal")
# How SQLite ends a journal that names another one.
_NAMES_ANOTHER = bytes.fromhex("d9d505f920a163d7")
_CACHE_KIB = 64 * 1024
_WAIT_SECONDS = 10
_DAMAGE = (
    "not a database",
    "malformed",
    "decode to UTF-8",
    "no such table",
    "no such column",
    "disk image",
    "datatype mismatch",
    "has no column",
)


class Unlocked(sqlite3.Connection):
    """A database in a directory where this user can't write, and that nobody had open for writing.

    SQLite takes no locks then and believes that the file never changes: it reads the state of before for
    good, and parts of two states where somebody writes meanwhile. So whoever reads asks `current` before and
    `is_changed` after.

    Attributes:
        file, tables: as of `open_to_read`.
        seen: what the file looked like before anything was read.
    """

    file: Path
    tables: Sequence[str]
    seen: tuple[int, ...] | None

    def is_outdated(self) -> bool:
        """Whether somebody has written to the file, or may do so soon; with their log there are locks."""
        return is_changed(self) or self.file.with_name(self.file.name + "-wal").exists()


def open_to_read(file: Path, tables: Sequence[str]) -> sqlite3.Connection:
    """Open a database that somebody may be writing.

    Args:
        file: there is one.
        tables: `CREATE TABLE IF NOT EXISTS …` of each table that it may have.

    Raises:
        sqlite3.DatabaseError: it can't be read, or holds something else; see `is_damage`.
    """
    _require_files(file)
    return _checked(_connect_to_read(file, tables), tables)


def current(connection: sqlite3.Connection) -> sqlite3.Connection:
    """A connection that reads what is in the file now, outside of transactions: most times the same one.

    Raises:
        sqlite3.DatabaseError: as of `open_to_read`.
    """
    if not isinstance(connection, Unlocked) or connection.in_transaction or not connection.is_outdated():
        return connection
    newer = open_to_read(connection.file, connection.tables)
    connection.close()
    return newer


def is_changed(connection: sqlite3.Connection) -> bool:
    """Whether somebody wrote to a file that is read without locks: what was read may be of two states.

    A file that is gone is not written to.
    """
    return isinstance(connection, Unlocked) and _stat(connection.file) not in (connection.seen, None)


def open_to_write(
    file: Path, tables: Sequence[str], *, wait_seconds: float = _WAIT_SECONDS, durable: bool = True
) -> sqlite3.Connection:
    """Open a database, or begin one; its tables aren't made yet.

    Args:
        file: in a directory that is there.
        tables: `CREATE TABLE IF NOT EXISTS …` of each table that it may have.
        wait_seconds: for somebody else who writes.
        durable: whether a commit survives a power cut, whatever it costs.

    Raises:
        sqlite3.DatabaseError: it can't be opened, or holds something else; see `is_damage`.
    """
    _require_files(file)
    connection = sqlite3.connect(file, isolation_level=None, timeout=wait_seconds, check_same_thread=False)
    try:
        synchronous = "FULL" if durable else "NORMAL"
        for pragma in ("journal_mode = WAL", f"synchronous = {synchronous}", f"cache_size = -{_CACHE_KIB}"):
            connection.execute("PRAGMA " + pragma)
    except sqlite3.Error:
        connection.close()
        raise
    return _checked(connection, tables)


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Whether a table was made already."""
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone())


def is_damage(error: sqlite3.Error) -> bool:
    """Whether what is in the file is at fault, and no lock or full disk."""
    return any(sign in str(error) for sign in _DAMAGE)


def _connect_to_read(file: Path, tables: Sequence[str]) -> sqlite3.Connection:
    try:
        return _connected(file, "mode=ro", sqlite3.Connection)
    except sqlite3.DatabaseError as error:
        # A log needs a place to write. Where there is none, SQLite may read a file that nobody writes to.
        # With a log that was left behind, the file alone isn't whole.
        log = file.with_name(file.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise FidkitError(
                f"{shown(file)}: can't be read: its log was left behind by somebody who wrote to it, and you "
                "can't write there; have who built it look at it once, with `fidkit corpus check`"
            ) from error
        seen = _stat(file)  # before anything is read
        connection = _connected(file, "mode=ro&immutable=1", Unlocked)
        connection.file, connection.tables, connection.seen = file, tables, seen
        return connection


def _connected(file: Path, mode: str, kind: type[C]) -> C:
    connection = sqlite3.connect(
        f"{file.resolve().as_uri()}?{mode}", uri=True, isolation_level=None, check_same_thread=False,
        timeout=_WAIT_SECONDS, factory=kind,
    )  # fmt: skip
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _stat(file: Path) -> tuple[int, ...] | None:
    """What changes when a file is replaced or written to; None where there is none any more."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _require_files(file: Path) -> None:
    for end in _BESIDE:
        path = file.with_name(file.name + end)
        there = path.is_symlink() or path.exists()
        if there and not is_own_file(path):
            raise sqlite3.DatabaseError(f"malformed: {path.name} is a link or no file")
    journal = file.with_name(file.name + "-journal")
    if journal.exists():
        with journal.open("rb") as packed:
            packed.seek(max(0, journal.stat().st_size - len(_NAMES_ANOTHER)))
            if packed.read() == _NAMES_ANOTHER:
                raise sqlite3.DatabaseError(f"malformed: {journal.name} names another file")


def _checked(connection: sqlite3.Connection, tables: Sequence[str]) -> sqlite3.Connection:
    """The connection, if its tables are some of these and there is nothing else in it."""
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        known = {_plain(table.replace("IF NOT EXISTS ", "")) for table in tables}
        known.add(_plain("CREATE TABLE sqlite_sequence(name,seq)"))  # SQLite's own, of AUTOINCREMENT
        for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master"):
            is_automatic = kind == "index" and sql is None
            if not is_automatic and (kind != "table" or _plain(str(sql)) not in known):
                raise sqlite3.DatabaseError(f"malformed: the {kind} {name} is none of its own")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _plain(sql: str) -> str:
    return " ".join(sql.split())
