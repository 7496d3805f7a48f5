"""The catalogue of a corpus: passages, documents, files and the name of the current index, in SQLite (WAL).

Rows are numbered once and never reused; the passages of a file stand in one run of rows, in order.
A file that is read again gets a new number and new rows, so a number always means one content. So does a
document. Its text is kept although the file may have it too: what evidence points at has to be there when the
file is gone, changed or packed in another, and costs a third of the text.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from fidkit.database import is_damage, open_to_read, open_to_write
from fidkit.disk import shown
from fidkit.errors import CorpusError
from fidkit.passages.load.packed import Packed
from fidkit.passages.load.record import TAKEN, Row, UnreadableFile
from fidkit.passages.load.rows import names_of, source_of
from fidkit.passages.load.sources import SourceFile
from fidkit.passages.local.cuts import NUMBERS
from fidkit.passages.local.layout import (
    CATALOGUE,
    FORMAT_VERSION,
    LEXICAL,
    VECTORS,
    WITHOUT_VECTORS,
)
from fidkit.passages.local.records import DocumentRecord, FileRecord, InFile, is_possible
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
        file INTEGER NOT NULL, document INTEGER, start INTEGER, end INTEGER)""",
    # What is long stands last: SQLite reads a row from its beginning.
    """CREATE TABLE IF NOT EXISTS documents (
        document INTEGER PRIMARY KEY, file INTEGER NOT NULL, member TEXT NOT NULL, title TEXT NOT NULL,
        facts TEXT NOT NULL, notes TEXT NOT NULL, map BLOB NOT NULL, boxes BLOB NOT NULL,
        text BLOB NOT NULL, UNIQUE (file, member))""",
)
# Of format 1, which had no documents.
_FORMER = (
    """CREATE TABLE IF NOT EXISTS passages (
        row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text TEXT NOT NULL,
        file INTEGER NOT NULL, start INTEGER, end INTEGER)""",
)
_COLUMNS = "SELECT p.row, p.id, p.title, p.text, f.name, d.member, p.start, p.end"
_PASSAGES = f"{_COLUMNS} FROM passages p JOIN files f USING (file) LEFT JOIN documents d USING (document)"
# CROSS JOIN fixes the order of the loops: otherwise all passages might be sorted before the first returns.
_ALL_PASSAGES = f"""{_COLUMNS} FROM files f CROSS JOIN passages p LEFT JOIN documents d USING (document)
    WHERE p.row BETWEEN f.first_row AND f.first_row + f.passages - 1 ORDER BY f.position, p.row"""
_DOCUMENTS = """SELECT d.document, f.name, d.member, d.title, d.facts, d.notes, f.path, f.sha256
    FROM documents d JOIN files f USING (file)"""
_IN_FILES = """SELECT f.file, f.name, f.path, f.mtime_ns, f.first_row, f.passages,
        d.document, d.member, d.facts
    FROM files f LEFT JOIN documents d USING (file) WHERE f.passages > 0 ORDER BY f.file, d.document"""
_FRESH = 1 << 40  # as many removed passages as have an index written anew
_NUMBERS = (
    *("generation", "passages", "next_row", "next_file", "next_document"),
    *("removed_since_fresh", "unread"),
    *NUMBERS,
)
_NEEDED = {"sources", "passages", "fingerprint", "generation"}
_DIGITS = 18  # of a number that SQLite holds
_MOST_PARAMETERS = 500


class FormerFormat(CorpusError):
    """A corpus of an older format, to be built again from its `sources`."""

    def __init__(self, directory: Path, version: int, sources: str) -> None:
        super().__init__(
            f"{shown(directory)}: this corpus has format version {version}, this fidkit reads "
            f"{FORMAT_VERSION}; "
            f"run `fidkit corpus build SOURCE --to {shown(directory)}`"
        )
        self.version, self.sources = version, sources


class Catalogue:
    """One connection. Not to be used by two threads at once, nor across a fork."""

    def __init__(self, connection: sqlite3.Connection, directory: Path) -> None:
        self.directory = directory
        self._sql = connection

    @classmethod
    def for_reading(cls, directory: Path) -> Catalogue:
        """Open a complete corpus.

        Raises:
            FormerFormat: of an older format.
            CorpusError: no corpus, never completed, of a newer format, or damaged.
        """
        if not (directory / CATALOGUE).exists():
            what = "is not a corpus" if directory.exists() else "does not exist"
            raise CorpusError(
                f"{shown(directory)} {what}; expected a directory made by "
                f"`fidkit corpus build SOURCE --to {shown(directory)}`"
            )
        try:
            catalogue = cls(open_to_read(directory / CATALOGUE, _TABLES + _FORMER), directory)
        except sqlite3.DatabaseError as error:
            raise _damaged(directory, error) from error
        try:
            meta = catalogue.meta()
            if "lexical" not in meta:
                raise CorpusError(
                    f"{shown(directory)}: this corpus was never completed; "
                    f"run `fidkit corpus build SOURCE --to {shown(directory)}`"
                )
            if (version := _version(meta)) < FORMAT_VERSION:
                raise FormerFormat(directory, version, meta["sources"])
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
            connection = open_to_write(directory / CATALOGUE, _TABLES + _FORMER)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                raise _damaged(directory, error) from error
            raise
        catalogue = cls(connection, directory)
        try:
            catalogue.begin()
            catalogue._leave_former_format()
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

    def _leave_former_format(self) -> None:
        """Forget all that an older format holds, in the open transaction: it is read again."""
        meta = self.meta()
        if meta and _version(meta) < FORMAT_VERSION:
            for table in ("files", "passages", "documents"):
                self._sql.execute(f"DROP TABLE IF EXISTS {table}")
            facts = [("removed_since_fresh", str(_FRESH)), ("format_version", str(FORMAT_VERSION))]
            self._sql.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", facts)

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
        version = _version(meta)
        if version < 0 or any(_whole(meta, name, 0) < 0 for name in _NUMBERS):
            raise _damaged(self.directory, "impossible numbers")
        if meta and not meta.keys() >= _NEEDED and "lexical" in meta:
            raise _damaged(self.directory, "facts are missing")
        for key, begins in (("lexical", LEXICAL), ("vectors", VECTORS)):
            name = meta.get(key, begins)
            if key == "vectors" and name in ("", WITHOUT_VECTORS):
                continue
            if not is_plain_name(name) or not name.startswith(begins):
                raise _damaged(self.directory, f"its index can't be called {name!r:.99}")
        if version > FORMAT_VERSION:
            raise CorpusError(
                f"{shown(self.directory)}: this corpus has format version {version}, this fidkit reads up to "
                f"{FORMAT_VERSION}; upgrade fidkit, or build the corpus again in another directory"
            )
        return meta

    def names(self) -> tuple[str, ...]:
        """Directory names of the index and, if there are any, the vectors that belong to this state."""
        meta = self.meta()
        return tuple(name for name in (meta.get("lexical"), vectors_of(meta)) if name)

    def files(self) -> list[FileRecord]:
        """Files in the order of the sources, those that were skipped included."""
        with self._whole_records():
            found = self._sql.execute("SELECT * FROM files ORDER BY position").fetchall()
        records = [FileRecord(*record) for record in found]
        if not all(map(is_possible, records)):
            raise _damaged(self.directory, "impossible numbers of a file")
        return records

    def sums(self) -> list[tuple[bytes, int]]:
        """Fingerprint and number of the passages of each file, as this connection wrote or read them."""
        with self._whole_records():
            return self._sql.execute("SELECT sum, passages FROM files").fetchall()

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

    def passages_if(self, name: str, rows: Sequence[int]) -> list[Passage] | None:
        """Passages of the rows in the given order; None when a retriever's name is of an earlier state.

        Args:
            name: of the index, of the vectors, or of both (`fidkit.passages.search.hybrid.Hybrid.name`).
            rows: their numbers.
        """
        self._sql.execute("BEGIN")
        try:
            if not set(name.split("+")) <= set(self.names()):
                return None
            found = {row: passage for row, passage in self._select("p.row", rows)}
        finally:
            self._sql.execute("COMMIT")
        if found.keys() != set(rows):
            raise CorpusError(
                f"{shown(self.directory)}: its index has passages that the catalogue doesn't hold; `fidkit "
                f"corpus check {shown(self.directory)} --repair` writes it anew"
            )
        return [found[row] for row in rows]

    def by_id(self, ids: Sequence[str]) -> dict[str, Passage]:
        """The passages with these ids, as far as there are any."""
        return {passage.id: passage for _, passage in self._select("p.id", ids)}

    def texts(self, rows: Iterable[int]) -> Iterator[tuple[int, str, str]]:
        """(row, title, text) of these rows, in their order."""
        with self._whole_records():
            for row in rows:
                query = "SELECT title, text FROM passages WHERE row = ?"
                for title, text in self._sql.execute(query, (row,)):
                    yield row, str(title), str(text)

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
        row, key, title, text, name, member, start, end = record
        if not all(isinstance(part, str) for part in (key, title, text, name, member or "")):
            raise _damaged(self.directory, f"passage {row!r:.99} is no text")
        source = source_of(name, member or "")
        return row, Passage(key, title, text, source if start is None else f"{source}:{start}-{end}")

    def document(self, source: str) -> DocumentRecord | None:
        """The document that is called so; None where there is none."""
        for name, member in names_of(source):
            for found in self._documents("WHERE f.name = ? AND d.member = ?", (name, member)):
                return found
        return None

    def documents_with_notes(self) -> list[DocumentRecord]:
        """Those of which a person has to know something, in the order of the sources."""
        return list(self._documents("WHERE d.notes != '[]' ORDER BY f.position, d.document", ()))

    def _documents(self, which: str, parameters: Sequence[Any]) -> Iterator[DocumentRecord]:
        with self._whole_records():
            for number, name, member, title, facts, notes, path, sha256 in self._sql.execute(
                f"{_DOCUMENTS} {which}", parameters
            ):
                try:
                    known, said = dict(json.loads(facts)), tuple(map(str, json.loads(notes)))
                except (ValueError, TypeError, RecursionError) as error:
                    raise _damaged(self.directory, f"facts of a document: {error}") from error
                yield DocumentRecord(
                    number, source_of(name, member), member, title, known, said, path, sha256
                )

    def documents_in_files(self) -> Iterator[InFile]:
        """The documents of each file with passages, by number; once None for a passage file."""
        with self._whole_records():
            for number, name, path, time, first, count, document, member, facts in self._sql.execute(
                _IN_FILES
            ):
                try:
                    said = json.loads(facts or "{}").items()
                    known = {str(key).casefold(): str(value) for key, value in said}
                except (ValueError, AttributeError, RecursionError) as error:
                    raise _damaged(self.directory, f"facts of a document: {error}") from error
                yield InFile(number, name, path, time, first, count, document, member or "", known)

    def spans_of_documents(self, first_row: int, last_row: int) -> dict[int | None, tuple[int, int]]:
        """First and last row of each document that has some of these rows."""
        query = """SELECT document, MIN(row), MAX(row) FROM passages WHERE row BETWEEN ? AND ?
            GROUP BY document"""
        with self._whole_records():
            found = self._sql.execute(query, (first_row, last_row)).fetchall()
        return {document: (first, last) for document, first, last in found}

    def state_number(self) -> int:
        """Another number once somebody else has committed something; means nothing to other connections."""
        return int(self._sql.execute("PRAGMA data_version").fetchone()[0])

    def blob(self, document: int, column: Literal["map", "boxes", "text"]) -> bytes:
        """What is long of a document, packed; empty where there is no such document."""
        with self._whole_records():
            found = self._sql.execute(
                f"SELECT {column} FROM documents WHERE document = ?", (document,)
            ).fetchone()
        return bytes(found[0]) if found and isinstance(found[0], bytes) else b""

    def sources(self, limit: int) -> list[str]:
        """What the first documents are called."""
        query = "SELECT f.name, d.member FROM documents d JOIN files f USING (file) LIMIT ?"
        with self._whole_records():
            return [source_of(name, member) for name, member in self._sql.execute(query, (limit,))]

    def documents_of(self, file: int) -> list[int]:
        """Numbers of a file's documents."""
        with self._whole_records():
            query = "SELECT document FROM documents WHERE file = ? ORDER BY document"
            return [number for (number,) in self._sql.execute(query, (file,))]

    def rows_of(self, file: FileRecord) -> Iterator[tuple[Row, int | None]]:
        """Passages of a file as they were read, each with the number of its document."""
        last = file.first_row + file.passages - 1
        with self._whole_records():
            columns = "SELECT id, title, text, start, end, document FROM passages"
            which = f"{columns} WHERE row BETWEEN ? AND ? ORDER BY row"
            for *row, document in self._sql.execute(which, (file.first_row, last)):
                yield Row(*row), document

    def row_numbers(self) -> Iterator[int]:
        """Of all passages, in no order."""
        with self._whole_records():
            for (row,) in self._sql.execute("SELECT row FROM passages"):
                yield row

    def require_whole(self) -> None:
        """Have SQLite look at every page of its file.

        Raises:
            CorpusError: it is damaged.
        """
        with self._whole_records():
            said = [str(line) for (line,) in self._sql.execute("PRAGMA integrity_check(3)")]
        if said != ["ok"]:
            raise _damaged(self.directory, "; ".join(said))

    def count(self, table: Literal["documents", "passages"]) -> int:
        """How many there are."""
        with self._whole_records():
            return int(self._sql.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])

    # Writing

    def begin(self) -> None:
        """Open a transaction. Only with the writer's lock."""
        self._sql.execute("BEGIN IMMEDIATE")

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

    def restat(self, record: FileRecord, found: SourceFile, mtime_ns: int, position: int) -> None:
        """Note where an unchanged file was found this time."""
        path, size = shown(found.path), found.size
        self.move(record._replace(path=path, size=size, mtime_ns=mtime_ns, position=position))

    def move(self, record: FileRecord) -> None:
        """Note where a file with this number was found, and when it was written."""
        self._sql.execute(
            "UPDATE files SET path = ?, size = ?, mtime_ns = ?, position = ? WHERE file = ?",
            (record.path, record.size, record.mtime_ns, record.position, record.file),
        )

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


def vectors_of(meta: dict[str, str]) -> str | None:
    """Directory name of the vectors, if the state has any."""
    name = meta.get("vectors", "")
    return None if name in ("", WITHOUT_VECTORS) else name


def _version(meta: dict[str, str]) -> int:
    return _whole(meta, "format_version", FORMAT_VERSION)


def _whole(meta: dict[str, str], name: str, default: int) -> int:
    """A whole number among the facts; -1 for what is none."""
    given = meta.get(name, str(default))
    return int(given) if given.isascii() and given.isdecimal() and len(given) <= _DIGITS else -1


def _damaged(directory: Path, error: sqlite3.Error | str) -> CorpusError:
    return CorpusError(
        f"{shown(directory)}: its catalogue can't be read ({error}); delete the directory and build the "
        "corpus again"
    )
