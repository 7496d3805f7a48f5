"""Reads the catalogue of a corpus (`fidkit.passages.local.catalogue`)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from fidkit.database import current, is_changed, is_damage, open_to_read
from fidkit.disk import shown
from fidkit.errors import CorpusError
from fidkit.passages.load.record import Row
from fidkit.passages.load.rows import names_of, source_of
from fidkit.passages.local.layout import CATALOGUE, FORMAT_VERSION
from fidkit.passages.local.records import DocumentRecord, FileRecord, InFile, is_possible
from fidkit.passages.local.schema import (
    FORMER_TABLES,
    TABLES,
    ChangedError,
    FormerFormat,
    damaged,
    require_possible,
    vectors_of,
    version_of,
)
from fidkit.paths import is_whole_number
from fidkit.types import Passage

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
_MOST_PARAMETERS = 500


class CatalogueReader:
    """One connection. Not to be used by two threads at once, nor across a fork."""

    def __init__(self, connection: sqlite3.Connection, directory: Path) -> None:
        self.directory = directory
        self._sql = connection
        self._renewals = 0

    @classmethod
    def for_reading(cls, directory: Path) -> Self:
        """Open a complete corpus.

        Raises:
            FormerFormat: of an older format.
            CorpusError: no corpus, never completed, of a newer format, or damaged.
        """
        if not (directory / CATALOGUE).exists():
            if directory.exists():
                what, build = "is not a corpus", f"{shown(directory)} --to NEW.corpus"
            else:
                what, build = "does not exist", f"SOURCE --to {shown(directory)}"
            raise CorpusError(
                f"{shown(directory)} {what}; expected a directory made by `fidkit corpus build {build}`"
            )
        try:
            catalogue = cls(open_to_read(directory / CATALOGUE, TABLES + FORMER_TABLES), directory)
        except sqlite3.DatabaseError as error:
            raise damaged(directory, error) from error
        try:
            meta = catalogue.meta()
            if "lexical" not in meta:
                raise CorpusError(
                    f"{shown(directory)}: this corpus was never completed; "
                    f"run `fidkit corpus build SOURCE --to {shown(directory)}`"
                )
            if (version := version_of(meta)) < FORMAT_VERSION:
                raise FormerFormat(directory, version, meta["sources"])
        except BaseException:
            catalogue.close()
            raise
        return catalogue

    def close(self) -> None:
        self._sql.close()

    def meta(self) -> dict[str, str]:
        """Everything known about the corpus as a whole; empty before the first build was completed.

        Raises:
            CorpusError: written by a newer version of the format, or damaged.
        """
        with self._whole_records():
            try:
                meta = {str(k): str(v) for k, v in self._sql.execute("SELECT key, value FROM meta")}
            except sqlite3.DatabaseError as error:
                if "no such table" not in str(error):
                    raise
                return {}
        require_possible(meta, self.directory)
        return meta

    def names(self) -> tuple[str, ...]:
        """Directory names of the index and, if there are any, the vectors that belong to this state."""
        meta = self.meta()
        return tuple(name for name in (meta.get("lexical"), vectors_of(meta)) if name)

    def files(self) -> list[FileRecord]:
        """Files in the order of the sources, those that were skipped included."""
        with self._whole_records():
            found = self._sql.execute("SELECT * FROM files ORDER BY position").fetchall()
        records = [FileRecord(*file) for file in found]  # an older catalogue has fewer columns
        if not all(map(is_possible, records)):
            raise damaged(self.directory, "impossible numbers of a file")
        return records

    def sums(self) -> list[tuple[bytes, int]]:
        """Fingerprint and number of the passages of each file, as this connection wrote or read them."""
        with self._whole_records():
            return self._sql.execute("SELECT sum, passages FROM files").fetchall()

    @contextmanager
    def _whole_records(self) -> Iterator[None]:
        """Around whatever is read: of the state that is current when it begins, and of no other.

        Raises:
            ChangedError: somebody wrote meanwhile, and there was nothing to keep that apart.
            CorpusError: damaged.
        """
        try:
            if (sql := current(self._sql)) is not self._sql:
                self._sql, self._renewals = sql, self._renewals + 1
            yield
        except sqlite3.DatabaseError as error:
            if is_changed(self._sql):
                raise ChangedError(self.directory) from error
            if is_damage(error):
                raise damaged(self.directory, error) from error
            raise
        if is_changed(sql):
            raise ChangedError(self.directory)

    @contextmanager
    def one_state(self) -> Iterator[None]:
        """Everything read inside is of one moment; builds that commit meanwhile are not seen."""
        with self._whole_records():
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
        try:
            with self.one_state():
                if not set(name.split("+")) <= set(self.names()):
                    return None
                found = {row: passage for row, passage in self._select("p.row", rows)}
        except ChangedError:
            return None
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
                    raise damaged(self.directory, "impossible numbers of a passage")
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
            raise damaged(self.directory, f"passage {row!r:.99} is no text")
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
                    raise damaged(self.directory, f"facts of a document: {error}") from error
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
                    raise damaged(self.directory, f"facts of a document: {error}") from error
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
        with self._whole_records():
            committed = int(self._sql.execute("PRAGMA data_version").fetchone()[0])
        return (self._renewals << 32) + committed  # a new connection counts anew

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
            raise damaged(self.directory, "; ".join(said))

    def count(self, table: Literal["documents", "passages"]) -> int:
        """How many there are."""
        with self._whole_records():
            return int(self._sql.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])
