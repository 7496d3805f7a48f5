"""The catalogue of a corpus: passages, files and the name of the current index, in SQLite (WAL).

Rows are numbered once and never reused; the passages of a file stand in one run of rows, in order.
A file that is read again gets a new number and new rows, so a number always means one content.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from fidkit.database import is_damage, open_to_read, open_to_write
from fidkit.disk import shown
from fidkit.errors import CorpusError
from fidkit.passages.load.record import TAKEN, Row, UnreadableFile
from fidkit.passages.load.sources import SourceFile
from fidkit.passages.local.layout import CATALOGUE, FORMAT_VERSION, LEXICAL
from fidkit.paths import is_plain_name, is_whole_number
from fidkit.types import Passage

_TABLES = (
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS files (
        file INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, path TEXT NOT NULL, kind TEXT NOT NULL,
        note TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL,
        position INTEGER NOT NULL, first_row INTEGER NOT NULL, passages INTEGER NOT NULL,
        sum BLOB NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS passages (
        row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text TEXT NOT NULL,
        file INTEGER NOT NULL, start INTEGER, end INTEGER)""",
)
_COLUMNS = "SELECT p.row, p.id, p.title, p.text, f.name, p.start, p.end"
_PASSAGES = f"{_COLUMNS} FROM passages p JOIN files f USING (file)"
# CROSS JOIN fixes the order of the loops: otherwise all passages might be sorted before the first returns.
_ALL_PASSAGES = f"""{_COLUMNS} FROM files f CROSS JOIN passages p
    WHERE p.row BETWEEN f.first_row AND f.first_row + f.passages - 1 ORDER BY f.position, p.row"""
_SUM_BYTES = 16
_NUMBERS = ("generation", "passages", "next_row", "next_file", "removed_since_fresh")
_NEEDED = {"sources", "passages", "fingerprint", "generation"}
_DIGITS = 18  # of a number that SQLite holds
_MOST_PARAMETERS = 500


class FileRecord(NamedTuple):
    """A file as indexed; `sum` adds up the fingerprints of its passages."""

    file: int
    name: str
    path: str
    kind: str
    note: str
    size: int
    mtime_ns: int
    sha256: str
    position: int
    first_row: int
    passages: int
    sum: bytes


class Sum:
    """Fingerprint of a set of passages: hashes added modulo 2 ** 128, so order does not matter."""

    def __init__(self) -> None:
        self._value = 0

    def add(self, row: Row) -> None:
        content = json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")
        self.join(hashlib.blake2b(content, digest_size=_SUM_BYTES).digest())

    def join(self, other: bytes) -> None:
        self._value = (self._value + int.from_bytes(other, "little")) % (1 << 8 * _SUM_BYTES)

    def digest(self) -> bytes:
        return self._value.to_bytes(_SUM_BYTES, "little")


class Catalogue:
    """One connection. Not to be used by two threads at once, nor across a fork."""

    def __init__(self, connection: sqlite3.Connection, directory: Path) -> None:
        self.directory = directory
        self._sql = connection

    @classmethod
    def for_reading(cls, directory: Path) -> Catalogue:
        """Open a complete corpus.

        Raises:
            CorpusError: no corpus, never completed, of a newer format, or damaged.
        """
        if not (directory / CATALOGUE).exists():
            what = "is not a corpus" if directory.exists() else "does not exist"
            raise CorpusError(
                f"{shown(directory)} {what}; expected a directory made by "
                f"`fidkit corpus build SOURCE --to {shown(directory)}`"
            )
        try:
            catalogue = cls(open_to_read(directory / CATALOGUE, _TABLES), directory)
        except sqlite3.DatabaseError as error:
            raise _damaged(directory, error) from error
        try:
            if catalogue.lexical() is None:
                raise CorpusError(
                    f"{shown(directory)}: this corpus was never completed; "
                    f"run `fidkit corpus build SOURCE --to {shown(directory)}`"
                )
        except BaseException:
            catalogue.close()
            raise
        return catalogue

    @classmethod
    def for_writing(cls, directory: Path) -> Catalogue:
        """Open or create; a transaction is open until `commit`. Only with the writer's lock.

        Raises:
            CorpusError: of a newer format, or damaged.
        """
        try:
            # Durable: after a power cut the catalogue must not name an index that was swept already.
            connection = open_to_write(directory / CATALOGUE, _TABLES)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                raise _damaged(directory, error) from error
            raise
        catalogue = cls(connection, directory)
        try:
            connection.execute("BEGIN IMMEDIATE")
            catalogue.meta()
            for table in _TABLES:
                connection.execute(table)
        except sqlite3.DatabaseError as error:
            connection.close()
            if is_damage(error):
                raise _damaged(directory, error) from error
            raise
        except CorpusError:
            connection.close()
            raise
        return catalogue

    def close(self) -> None:
        self._sql.close()

    # Reading

    def meta(self) -> dict[str, str]:
        """Everything known about the corpus as a whole; empty before the first build was completed.

        Raises:
            CorpusError: written by a newer version of the format, or damaged.
        """
        try:
            meta = {str(k): str(v) for k, v in self._sql.execute("SELECT key, value FROM meta")}
        except sqlite3.DatabaseError as error:
            if "no such table" in str(error):
                return {}
            if is_damage(error):
                raise _damaged(self.directory, error) from error
            raise
        version = _whole(meta, "format_version", FORMAT_VERSION)
        if version < 0 or any(_whole(meta, name, 0) < 0 for name in _NUMBERS):
            raise _damaged(self.directory, "impossible numbers")
        if meta and not meta.keys() >= _NEEDED and "lexical" in meta:
            raise _damaged(self.directory, "facts are missing")
        if not is_plain_name(meta.get("lexical", LEXICAL)) or not meta.get("lexical", LEXICAL).startswith(
            LEXICAL
        ):
            raise _damaged(self.directory, f"its index can't be called {meta['lexical']!r:.99}")
        if version > FORMAT_VERSION:
            raise CorpusError(
                f"{shown(self.directory)}: this corpus has format version {version}, this fidkit reads up to "
                f"{FORMAT_VERSION}; upgrade fidkit, or build the corpus again in another directory"
            )
        return meta

    def lexical(self) -> str | None:
        """Directory name of the index that belongs to this state; None before the first commit."""
        return self.meta().get("lexical")

    def files(self) -> list[FileRecord]:
        """Files in the order of the sources, those that were skipped included."""
        with self._whole_records():
            found = self._sql.execute("SELECT * FROM files ORDER BY position").fetchall()
        records = [FileRecord(*record) for record in found]
        if not all(map(_is_possible, records)):
            raise _damaged(self.directory, "impossible numbers of a file")
        return records

    @contextmanager
    def _whole_records(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                raise _damaged(self.directory, error) from error
            raise

    @contextmanager
    def one_state(self) -> Iterator[None]:
        """Everything read inside is of one moment; builds that commit meanwhile are not seen."""
        self._sql.execute("BEGIN")
        try:
            yield
        finally:
            self._sql.execute("COMMIT")

    def state(self) -> tuple[dict[str, str], list[FileRecord]]:
        """`meta` and `files` of one moment."""
        with self.one_state():
            return self.meta(), self.files()

    def passages_if(self, lexical: str, rows: Sequence[int]) -> list[Passage] | None:
        """Passages of the rows in the given order; None when `lexical` is no longer the current index."""
        self._sql.execute("BEGIN")
        try:
            if self.lexical() != lexical:
                return None
            found = {row: passage for row, passage in self._select("p.row", rows)}
        finally:
            self._sql.execute("COMMIT")
        if found.keys() != set(rows):
            raise _damaged(self.directory, "its index knows passages that it doesn't hold")
        return [found[row] for row in rows]

    def by_id(self, ids: Sequence[str]) -> dict[str, Passage]:
        """The passages with these ids, as far as there are any."""
        return {passage.id: passage for _, passage in self._select("p.id", ids)}

    def rows(self) -> Iterator[tuple[int, int, str, str]]:
        """(row, file, title, text) of everything, in the order of reading."""
        with self._whole_records():
            for row, file, title, text in self._sql.execute(
                "SELECT row, file, title, text FROM passages ORDER BY row"
            ):
                if not (is_whole_number(row) and is_whole_number(file) and isinstance(title, str)):
                    raise _damaged(self.directory, "impossible numbers of a passage")
                yield row, file, title, str(text)

    def passages(self) -> Iterator[Passage]:
        """All passages, in the order of the sources."""
        with self._whole_records():
            for record in self._sql.execute(_ALL_PASSAGES):
                yield self._passage(record)[1]

    def _select(self, column: str, keys: Sequence[Any]) -> Iterator[tuple[int, Passage]]:
        for at in range(0, len(keys), _MOST_PARAMETERS):
            some = keys[at : at + _MOST_PARAMETERS]
            marks = ",".join("?" * len(some))
            with self._whole_records():
                for record in self._sql.execute(f"{_PASSAGES} WHERE {column} IN ({marks})", some):
                    yield self._passage(record)

    def _passage(self, record: tuple[Any, ...]) -> tuple[int, Passage]:
        row, key, title, text, name, start, end = record
        if not all(isinstance(part, str) for part in (key, title, text, name)):
            raise _damaged(self.directory, f"passage {row!r:.99} is no text")
        return row, Passage(key, title, text, name if start is None else f"{name}:{start}-{end}")

    # Writing

    def remove(self, record: FileRecord) -> None:
        """Forget a file and its passages."""
        last = record.first_row + record.passages - 1
        self._sql.execute("DELETE FROM passages WHERE row BETWEEN ? AND ?", (record.first_row, last))
        self._sql.execute("DELETE FROM files WHERE file = ?", (record.file,))

    def restat(self, record: FileRecord, found: SourceFile, mtime_ns: int, position: int) -> None:
        """Note where an unchanged file was found this time."""
        self._sql.execute(
            "UPDATE files SET path = ?, size = ?, mtime_ns = ?, position = ? WHERE file = ?",
            (shown(found.path), found.size, mtime_ns, position, record.file),
        )

    def forget_from(self, first_row: int) -> int:
        """Take back the passages from this row on; how many there were."""
        return self._sql.execute("DELETE FROM passages WHERE row >= ?", (first_row,)).rowcount

    def add_file(self, record: FileRecord) -> None:
        """Note a file, after its passages."""
        self._sql.execute(f"INSERT INTO files VALUES ({','.join('?' * len(record))})", record)

    def add_passages(self, first_row: int, file: int, name: str, rows: Sequence[Row]) -> None:
        """Store passages as rows `first_row`, `first_row + 1`, ...

        Raises:
            UnreadableFile: an id is taken already; some of the rows may stand there.
        """
        records = [
            (first_row + at, row.id, row.title, row.text, file, row.start, row.end)
            for at, row in enumerate(rows)
        ]
        try:
            self._sql.executemany("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?, ?)", records)
        except sqlite3.IntegrityError as error:
            raise self._duplicate(first_row, name, rows) from error

    def _duplicate(self, first_row: int, name: str, rows: Sequence[Row]) -> UnreadableFile:
        """Which of the rows it was: the first whose id belongs to another row number."""
        query = "SELECT p.row, f.name FROM passages p LEFT JOIN files f USING (file) WHERE id = ?"
        for at, row in enumerate(rows):
            taken, elsewhere = self._sql.execute(query, (row.id,)).fetchone()
            if taken != first_row + at:
                return UnreadableFile(
                    name,
                    f"{TAKEN}, but {row.id!r} occurs in {elsewhere or name} already",
                    "rename it, or leave ids out to number passages by line",
                )
        raise AssertionError("no duplicate among the passages that were refused")

    def commit(self, meta: dict[str, str]) -> None:
        """Make everything since opening visible to readers, at once."""
        self._sql.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(meta.items()))
        self._sql.execute("COMMIT")
        # Best effort: a reader may hold the log, or the disk be full by now; the commit stands.
        with suppress(sqlite3.OperationalError):
            self._sql.execute("PRAGMA busy_timeout = 0")
            self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def rollback(self) -> None:
        """Forget what was not committed."""
        if self._sql.in_transaction:
            self._sql.execute("ROLLBACK")


def _whole(meta: dict[str, str], name: str, default: int) -> int:
    """A whole number among the facts; -1 for what is none."""
    given = meta.get(name, str(default))
    return int(given) if given.isascii() and given.isdecimal() and len(given) <= _DIGITS else -1


def _is_possible(record: FileRecord) -> bool:
    numbers = (record.file, record.size, record.position, record.first_row, record.passages)
    texts = (record.name, record.path, record.kind, record.note, record.sha256)
    return (
        all(map(is_whole_number, numbers))
        and isinstance(record.mtime_ns, int)  # before 1970 it is negative
        and isinstance(record.sum, bytes)
        and all(isinstance(text, str) for text in texts)
    )


def _damaged(directory: Path, error: sqlite3.Error | str) -> CorpusError:
    return CorpusError(
        f"{shown(directory)}: its catalogue can't be read ({error}); delete the directory and build the "
        "corpus again"
    )
