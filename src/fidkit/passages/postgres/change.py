"""One change of a corpus in the database: files that come and go in one transaction, with one number.

The number is taken last, under the lock of the corpus' own row, which is held until the commit. So numbers
are committed in their order, and who has seen one has seen all below it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg import Connection, errors

from fidkit.passages.load.packed import Packed
from fidkit.passages.load.record import TAKEN, Row, UnreadableFile
from fidkit.passages.local.reading import Part
from fidkit.passages.local.records import FileRecord, Sum

_KEY = re.compile(r"=\(\d+, (.*)\)", re.DOTALL)
FILE_COLUMNS = ", ".join(FileRecord._fields)
"""They are called as in the catalogue of a directory."""
_PASSAGE_COLUMNS = "file, number, corpus, id, title, text, document, start_at, end_at"


class NewFile(NamedTuple):
    """What is known of a file beside its passages; see `fidkit.passages.local.records.FileRecord`."""

    name: str
    path: str
    kind: str
    note: str = ""
    size: int = 0
    mtime_ns: int = 0
    sha256: str = ""
    position: int = 0
    inode: int = 0
    changed_ns: int = 0
    tries: int = 0
    tried_ns: int = 0


class _Came(NamedTuple):
    number: int
    file: NewFile
    passages: int
    documents: int
    sum: bytes


class Change:
    """Files put and removed in the open transaction of a connection; `seal` makes them a change."""

    def __init__(self, connection: Connection, corpus: int) -> None:
        self._sql, self._corpus = connection, corpus
        self._came: list[_Came] = []
        self._gone: list[tuple[int, int, bytes]] = []
        self._moved: list[FileRecord] = []

    def lock(self, names: Iterable[str]) -> None:
        """Keep other writers of these files out until the commit. Once, before anything else."""
        for name in sorted(set(names)):
            self._sql.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (self._corpus, name))

    def remove(self, name: str, number: int | None = None) -> None:
        """Take a file out, if it is there; only the one of this number, where one is given."""
        found = self._sql.execute(
            "SELECT file, passages, sum FROM fidkit.files WHERE corpus = %s AND name = %s",
            (self._corpus, name),
        ).fetchone()
        if found is None or number not in (None, found[0]):
            return
        for table in ("passages", "documents", "files"):
            self._sql.execute(f"DELETE FROM fidkit.{table} WHERE file = %s", (found[0],))
        self._gone.append((int(found[0]), int(found[1]), bytes(found[2])))

    def put(
        self, file: NewFile, parts: Iterable[Part] = (), tell: Callable[[int], None] | None = None
    ) -> int:
        """Put a file in the place of the one that has its name; how many passages it has.

        Args:
            file: what is known of it.
            parts: its documents, each with its passages; those of a passage file have no document.
            tell: called now and then with the number of passages so far.

        Raises:
            UnreadableFile: an id is taken by another file, or there is a character that PostgreSQL can't
                keep. Nothing of the file is left then.
        """
        try:
            with self._sql.transaction():
                came = self._put(file, parts, tell)
        except errors.UniqueViolation as error:
            raise self._taken(file.name, error) from error
        except (psycopg.DataError, UnicodeEncodeError) as error:
            raise UnreadableFile(
                file.name, "expected text without NUL and without halves of characters, which PostgreSQL "
                "doesn't keep", "mend it or leave it out",
            ) from error  # fmt: skip
        self._came.append(came)
        return came.passages

    def move(self, record: FileRecord) -> None:
        """Note where a file with this number was found, and when it was written."""
        self._moved.append(record)

    def seal(self, facts: dict[str, Any] | None = None) -> int:
        """Give the change its number, and what came its rows. Last, right before the commit.

        Args:
            facts: of the whole corpus, from now on.
        """
        query = """SELECT sequence + 1, next_row, next_document, passages, fingerprint
            FROM fidkit.corpora WHERE corpus = %s FOR UPDATE"""
        found = self._sql.execute(query, (self._corpus,)).fetchone()
        assert found is not None
        sequence, row, document, passages, fingerprint = found
        total = int.from_bytes(fingerprint, "little")
        for number, count, of_file in self._gone:
            passages -= count
            total -= int.from_bytes(of_file, "little")
            self._sql.execute(
                "INSERT INTO fidkit.removed VALUES (%s, %s, %s)", (self._corpus, number, sequence)
            )
        for came in self._came:
            file = came.file
            self._sql.execute(
                f"INSERT INTO fidkit.files VALUES ({', '.join(['%s'] * 19)})",
                (
                    came.number, self._corpus, file.name, file.path, file.kind, file.note, file.size,
                    file.mtime_ns, file.sha256, file.position, row, came.passages, came.sum, document,
                    sequence, file.inode, file.changed_ns, file.tries, file.tried_ns,
                ),
            )  # fmt: skip
            row, document = row + came.passages, document + came.documents
            passages += came.passages
            total += int.from_bytes(came.sum, "little")
        for moved in self._moved:
            self._sql.execute(
                "UPDATE fidkit.files SET path = %s, size = %s, mtime_ns = %s, position = %s, inode = %s, "
                "changed_ns = %s, sequence = %s WHERE file = %s",
                (
                    moved.path, moved.size, moved.mtime_ns, moved.position, moved.inode, moved.changed_ns,
                    sequence, moved.file,
                ),
            )  # fmt: skip
        self._sql.execute(
            "UPDATE fidkit.corpora SET sequence = %s, next_row = %s, next_document = %s, passages = %s, "
            "fingerprint = %s, facts = coalesce(%s::jsonb, facts) WHERE corpus = %s",
            (
                sequence, row, document, passages, (total % (1 << 128)).to_bytes(16, "little"),
                None if facts is None else json.dumps(facts), self._corpus,
            ),
        )  # fmt: skip
        return int(sequence)

    def _put(self, file: NewFile, parts: Iterable[Part], tell: Callable[[int], None] | None) -> _Came:
        found = self._sql.execute("SELECT nextval('fidkit.file_numbers')").fetchone()
        assert found is not None
        self.remove(file.name)
        number, documents, passages, total = int(found[0]), 0, 0, Sum()
        for packed, rows in parts:
            document = None
            if packed is not None:
                document, documents = documents, documents + 1
                self._add_document(number, document, packed)
            copied = f"COPY fidkit.passages ({_PASSAGE_COLUMNS}) FROM STDIN"
            with self._sql.cursor() as cursor, cursor.copy(copied) as copy:
                for row in rows:
                    copy.write_row(
                        (
                            number,
                            passages,
                            self._corpus,
                            row.id,
                            row.title,
                            row.text,
                            document,
                            row.start,
                            row.end,
                        )
                    )
                    total.add(row)
                    passages += 1
                    if tell and passages % 2000 == 0:
                        tell(passages)
        return _Came(number, file, passages, documents, total.digest())

    def _add_document(self, file: int, number: int, packed: Packed) -> None:
        facts, notes = (json.dumps(value, ensure_ascii=False) for value in (packed.facts, packed.notes))
        self._sql.execute(
            "INSERT INTO fidkit.documents VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (file, number, packed.member, packed.title, facts, notes, packed.map, packed.boxes, packed.text),
        )

    def _taken(self, name: str, error: errors.UniqueViolation) -> UnreadableFile:
        found = _KEY.search(error.diag.message_detail or "")
        key = found[1] if found else ""
        owner = self._sql.execute(
            "SELECT p.file, f.name FROM fidkit.passages p LEFT JOIN fidkit.files f USING (file) "
            "WHERE p.corpus = %s AND p.id = %s", (self._corpus, key),
        ).fetchone()  # fmt: skip
        # A file of this same change has no record yet.
        names = {came.number: came.file.name for came in self._came}
        elsewhere = name if owner is None else owner[1] or names.get(owner[0], name)
        return UnreadableFile(
            name, f"{TAKEN}, but {key!r} occurs in {elsewhere} already",
            "rename it, or leave ids out to number passages by line",
        )  # fmt: skip


def rows_as_parts(rows: Sequence[Row]) -> list[Part]:
    """Passages of a passage file, as `Change.put` takes them."""
    return [(None, rows)]


def files_of(connection: Connection, corpus: int) -> list[FileRecord]:
    """All files of a corpus, in the order of the sources."""
    query = f"SELECT {FILE_COLUMNS} FROM fidkit.files WHERE corpus = %s ORDER BY position, file"
    return [FileRecord(*record) for record in connection.execute(query, (corpus,))]
