"""What a replica reads from the database to be up to date, and how that becomes what is searched."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import closing
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from psycopg import Connection

from fidkit.disk import shown
from fidkit.errors import CorpusError
from fidkit.passages.load.packed import Packed
from fidkit.passages.load.record import Row
from fidkit.passages.local.catalogue import Catalogue
from fidkit.passages.local.layout import FORMAT_VERSION, LEXICAL, explained_disk, sweep
from fidkit.passages.local.records import FileRecord, Sum
from fidkit.passages.local.report import BuildProgress
from fidkit.passages.local.vectors import Wanted, keep_begun
from fidkit.passages.postgres.change import FILE_COLUMNS
from fidkit.passages.postgres.log import State
from fidkit.passages.search.lexical import LexicalWriter

Tell = Callable[[BuildProgress], None]

_BATCH = 2000
# tantivy counts removed passages in its scores until their segment is written again. So a replica's index is
# written afresh unless that takes long. Then it is once so many of its passages were removed, or by `settle`.
_PATCHED_FROM, _PATCHED_SHARE = 20_000, 0.02
_NEEDED_PER_PASSAGE = 1300
"""Bytes of catalogue and index for a passage of 100 words, written to the catalogue's log first."""


class OtherSumsError(CorpusError):
    """What the replica would hold isn't what the database says that it holds."""


class Feeding:
    """One catching up, in the open transaction of the catalogue.

    Attributes:
        state: what is caught up with.
        came, gone: files.
    """

    def __init__(
        self, catalogue: Catalogue, directory: Path, connection: Connection, state: State, tell: Tell | None
    ) -> None:
        self._catalogue, self._directory, self._sql, self.state = catalogue, directory, connection, state
        self._tell_them = tell
        self._meta = catalogue.meta()
        self._passages = self._total = self.came = self.gone = 0
        self._writer: LexicalWriter | None = None

    def read(self, afresh: bool) -> None:
        """Read what came and went, in a snapshot of the database."""
        keep_begun(self._directory, self._meta)
        identity, since = known_in(self._meta)
        here = {record.file: record for record in self._catalogue.files()}
        if afresh or identity != self.state.identity or since > self.state.sequence:
            since, gone = 0, list(here.values())
        else:
            gone = [here[number] for number in self._removed(since) if number in here]
        left = here.keys() - {record.file for record in gone}
        changed = self._changed(since)
        came = [one for one in changed if one[0].file not in left]
        self.came, self.gone = len(came), len(gone)
        self._total = sum(record.passages for record, _ in came)
        writer, is_fresh = self._next_writer(gone, sum(here[number].passages for number in left))
        for record in gone:
            self._catalogue.remove(record)
            writer.remove_file(record.file)
        for record, _ in changed:
            if record.file in left:
                self._catalogue.move(record)
        if is_fresh:
            writer.add(self._catalogue.rows())
        with explained_disk(self._directory, needed_bytes=self.needed_bytes):
            for record, document in came:
                self._read(record, document, writer)
                self._catalogue.add_file(record)

    @property
    def needed_bytes(self) -> int:
        """About what the passages that came take, once in the log of the catalogue and once in it."""
        return self._total * _NEEDED_PER_PASSAGE

    def _next_writer(self, gone: list[FileRecord], kept: int) -> tuple[LexicalWriter, bool]:
        """The index that follows, and whether it is written from nothing."""
        old = self._meta.get("lexical")
        patched = int(self._meta.get("removed_since_fresh", 0)) + sum(record.passages for record in gone)
        most = _PATCHED_SHARE * kept if kept >= _PATCHED_FROM else 0
        usable = old is not None and (self._directory / old / "meta.json").exists()
        base = self._directory / str(old) if usable and patched <= most else None
        self._meta["generation"] = str(int(self._meta.get("generation", 0)) + 1)
        self._meta["removed_since_fresh"] = str(patched if base else 0)
        self._writer = LexicalWriter(self._directory / f"{LEXICAL}{self._meta['generation']}", base)
        return self._writer, base is None

    def abandon(self) -> None:
        """Stop. What was written is for the next to delete."""
        if self._writer is not None:
            self._writer.abandon()

    def commit(self, wanted: Wanted) -> None:
        """Finish index and vectors, and make all of it what is searched."""
        writer = self._writer
        assert writer is not None
        try:
            files, total = self._catalogue.files(), Sum()
            for record in files:
                total.join(record.sum)
            if total.digest().hex() != self.state.fingerprint:
                raise OtherSumsError(
                    f"{shown(self._directory)}: what was read from the database isn't what its sums say; run "
                    "`fidkit corpus check` on its URL"
                )
            self._tell("index")
            writer.finish()
            self._meta["vectors"] = wanted.name_after(
                self._catalogue, self._meta, self._directory, lambda: self._tell("vectors"), last=True
            )
        except BaseException:
            writer.abandon()
            raise
        facts = self.state.facts
        cutting = {key: str(facts[key]) for key in ("passage_words", "overlap") if key in facts}
        self._meta |= cutting | {
            "format_version": str(FORMAT_VERSION),
            "lexical": writer.name,
            "sources": json.dumps(facts.get("sources", [])),
            "passages": str(sum(record.passages for record in files)),
            "fingerprint": self.state.fingerprint,
            "unread": "0",
            "identity": self.state.identity,
            "sequence": str(self.state.sequence),
        }
        self._catalogue.commit(self._meta)
        sweep(self._directory, keep=self._catalogue.names())

    def _removed(self, since: int) -> list[int]:
        query = "SELECT file FROM fidkit.removed WHERE corpus = %s AND sequence > %s"
        return [number for (number,) in self._sql.execute(query, (self.state.corpus, since))]

    def _changed(self, since: int) -> list[tuple[FileRecord, int]]:
        """Files since a change, each with the number of its first document."""
        query = f"""SELECT {FILE_COLUMNS}, first_document FROM fidkit.files
            WHERE corpus = %s AND sequence > %s ORDER BY first_row, file"""
        found = self._sql.execute(query, (self.state.corpus, since))
        return [(FileRecord(*record[:-1]), int(record[-1])) for record in found]

    def _read(self, record: FileRecord, first_document: int, writer: LexicalWriter) -> None:
        """Take over the documents and passages of a file."""
        query = """SELECT number, member, title, facts, notes, map, boxes, text FROM fidkit.documents
            WHERE file = %s ORDER BY number"""
        for number, member, title, facts, notes, *packed in self._sql.execute(query, (record.file,)):
            long = map(bytes, packed)
            stored = Packed(member, title, json.loads(facts), tuple(json.loads(notes)), *long)
            self._catalogue.add_document(first_document + number, record.file, stored)
        # Broken off, a copy has to be ended: the transaction around it would wait for it without end.
        with closing(self._rows(record.file)) as found:
            for of_document, rows in groupby(found, itemgetter(1)):
                document = None if of_document is None else first_document + of_document
                while batch := list(islice(rows, _BATCH)):
                    first = record.first_row + batch[0][0]
                    passages = [Row(*row) for _, _, *row in batch]
                    self._catalogue.add_passages(first, record.file, record.name, passages, document)
                    writer.add(
                        (first + at, record.file, row.title, row.text) for at, row in enumerate(passages)
                    )
                    self._passages += len(passages)
                    self._tell("read")

    def _rows(self, file: int) -> Generator[tuple[Any, ...]]:
        query = """COPY (SELECT number, document, id, title, text, start_at, end_at FROM fidkit.passages
            WHERE file = {} ORDER BY number) TO STDOUT"""
        with self._sql.cursor() as cursor, cursor.copy(query.format(int(file))) as copy:
            copy.set_types(["int8", "int4", "text", "text", "text", "int8", "int8"])
            yield from copy.rows()

    def _tell(self, stage: str) -> None:
        if self._tell_them:
            self._tell_them(BuildProgress(stage, self._passages, self._total, self._passages))


def known_in(meta: dict[str, str]) -> tuple[str, int]:
    """Identity of the corpus that a replica is a copy of, and the last change in it; nothing for none."""
    return meta.get("identity", ""), int(meta.get("sequence", 0))
