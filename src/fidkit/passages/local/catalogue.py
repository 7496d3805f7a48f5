"""The catalogue of a corpus: passages, documents, files and the name of the current index, in SQLite (WAL).

Rows are numbered once and never reused; the passages of a file stand in one run of rows, in order.
A file that is read again gets a new number and new rows, so a number always means one content. So does a
document. Its text is kept although the file may have it too: what evidence points at has to be there when the
file is gone, changed or packed in another, and costs a third of the text.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from fidkit.database import is_damage, open_to_write
from fidkit.errors import CorpusError
from fidkit.passages.load.packed import Packed
from fidkit.passages.load.record import TAKEN, Row, UnreadableFile
from fidkit.passages.local.catalogue_reader import CatalogueReader
from fidkit.passages.local.layout import CATALOGUE, FORMAT_VERSION
from fidkit.passages.local.records import FileRecord
from fidkit.passages.local.schema import (
    ADDED,
    ADDED_TO_FILES,
    FORMER_TABLES,
    TABLES,
    FormerFormat,
    damaged,
    vectors_of,
    version_of,
)

__all__ = ["Catalogue", "FormerFormat", "vectors_of"]

_FRESH = 1 << 40  # as many removed passages as have an index written anew


class Catalogue(CatalogueReader):
    """A catalogue to be read, or to be written by the one that has the writer's lock."""

    @classmethod
    def for_writing(cls, directory: Path) -> Catalogue:
        """Open or create; a transaction is open until `commit`. Only with the writer's lock.

        Raises:
            CorpusError: of a newer format, or damaged.
        """
        try:
            # Durable: after a power cut the catalogue must not name an index that was swept already.
            connection = open_to_write(directory / CATALOGUE, TABLES + FORMER_TABLES)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                raise damaged(directory, error) from error
            raise
        catalogue = cls(connection, directory)
        try:
            catalogue.begin()
        except sqlite3.DatabaseError as error:
            connection.close()
            if is_damage(error):
                raise damaged(directory, error) from error
            raise
        except CorpusError:
            connection.close()
            raise
        return catalogue

    def _leave_former_format(self) -> None:
        """Forget all that an older format holds, in the open transaction: it is read again."""
        meta = self.meta()
        if meta and version_of(meta) < FORMAT_VERSION:
            for table in ("files", "passages", "documents"):
                self._sql.execute(f"DROP TABLE IF EXISTS {table}")
            facts = [("removed_since_fresh", str(_FRESH)), ("format_version", str(FORMAT_VERSION))]
            self._sql.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", facts)

    def begin(self) -> None:
        """Open a transaction, in which all tables are there. Only with the writer's lock."""
        self._sql.execute("BEGIN IMMEDIATE")
        self._leave_former_format()
        for table in TABLES:
            self._sql.execute(table)
        there = {name for _, name, *_ in self._sql.execute("PRAGMA table_info(files)")}
        for column in ADDED_TO_FILES:
            if column not in there:
                self._sql.execute(f"ALTER TABLE files ADD COLUMN {column} {ADDED}")

    def remove(self, record: FileRecord) -> None:
        """Forget a file and its passages."""
        last = record.first_row + record.passages - 1
        self._sql.execute("DELETE FROM passages WHERE row BETWEEN ? AND ?", (record.first_row, last))
        self._sql.execute("DELETE FROM documents WHERE file = ?", (record.file,))
        self._sql.execute("DELETE FROM files WHERE file = ?", (record.file,))

    def remove_others(self) -> None:
        """Forget passages and documents that belong to no file."""
        for table in ("passages", "documents"):
            self._sql.execute(f"DELETE FROM {table} WHERE file NOT IN (SELECT file FROM files)")

    def shift(self, shifted: Iterable[tuple[int, int]]) -> None:
        """Note new positions of files; pairs of position and number."""
        self._sql.executemany("UPDATE files SET position = ? WHERE file = ?", shifted)

    def move(self, record: FileRecord) -> None:
        """Note where a file with this number was found, and when it was written."""
        where = record.path, record.size, record.mtime_ns, record.position, record.inode, record.changed_ns
        self._sql.execute(
            "UPDATE files SET path = ?, size = ?, mtime_ns = ?, position = ?, inode = ?, changed_ns = ? "
            "WHERE file = ?", (*where, record.file),
        )  # fmt: skip

    def forget_from(self, first_row: int, file: int) -> int:
        """Take back the passages from this row on, and a file's documents; how many passages there were."""
        self._sql.execute("DELETE FROM documents WHERE file = ?", (file,))
        return self._sql.execute("DELETE FROM passages WHERE row >= ?", (first_row,)).rowcount

    def add_file(self, record: FileRecord) -> None:
        """Note a file, after its passages."""
        self._sql.execute(f"INSERT INTO files VALUES ({','.join('?' * len(record))})", record)

    def add_document(self, number: int, file: int, packed: Packed) -> None:
        """Store a document, before its passages."""
        facts, notes = (json.dumps(value, ensure_ascii=False) for value in (packed.facts, packed.notes))
        record = (number, file, packed.member, packed.title, facts, notes, packed.map, packed.boxes)
        self._sql.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*record, packed.text))

    def add_passages(
        self, first_row: int, file: int, name: str, rows: Sequence[Row], document: int | None = None
    ) -> None:
        """Store passages as rows `first_row`, `first_row + 1`, ...

        Args:
            first_row: the number of the first.
            file: the number of their file, and `name` its name.
            name: for the error.
            rows: the passages.
            document: the number of the document that they were cut from, if any.

        Raises:
            UnreadableFile: an id is taken already; some of the rows may stand there.
        """
        records = [
            (first_row + at, row.id, row.title, row.text, file, document, row.start, row.end)
            for at, row in enumerate(rows)
        ]
        try:
            self._sql.executemany("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?, ?, ?)", records)
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
