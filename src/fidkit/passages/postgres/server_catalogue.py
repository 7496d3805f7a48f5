"""What the server tells of a corpus: its catalogue, asked each time, and full-text search.

Words are ranked by `ts_rank_cd`, another measure than BM25 and a slower one. The column that it needs is made
by the first build with `?replica=none`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, TypeVar

from psycopg import Connection

from fidkit.errors import CorpusError
from fidkit.passages.load.rows import names_of, source_of
from fidkit.passages.local.records import DocumentRecord, FileRecord, InFile
from fidkit.passages.postgres.change import files_of
from fidkit.passages.postgres.log import Log, State
from fidkit.types import Passage

T = TypeVar("T")

_WORDS = "to_tsvector('english', title || ' ' || text)"
MAKE_WORDS = (
    "ALTER TABLE fidkit.passages ADD COLUMN IF NOT EXISTS words tsvector "
    f"GENERATED ALWAYS AS ({_WORDS}) STORED",
    "CREATE INDEX IF NOT EXISTS passages_by_words ON fidkit.passages USING gin (words)",
)
_PASSAGES = """SELECT f.first_row + p.number, p.id, p.title, p.text, f.name, d.member, p.start_at, p.end_at
    FROM fidkit.files f JOIN fidkit.passages p USING (file)
    LEFT JOIN fidkit.documents d ON d.file = p.file AND d.number = p.document WHERE f.corpus = %s"""
_DOCUMENTS = """SELECT f.first_document + d.number, f.name, d.member, d.title, d.facts, d.notes,
    f.path, f.sha256 FROM fidkit.documents d JOIN fidkit.files f USING (file) WHERE f.corpus = %s"""
_ROWS = """SELECT r.row, p.id, p.title, p.text, f.name, d.member, p.start_at, p.end_at
    FROM unnest(%s::bigint[]) r(row) CROSS JOIN LATERAL (
        SELECT * FROM fidkit.files f WHERE f.corpus = %s AND f.first_row <= r.row AND f.passages > 0
        ORDER BY f.first_row DESC LIMIT 1) f
    JOIN fidkit.passages p ON p.file = f.file AND p.number = r.row - f.first_row
    LEFT JOIN fidkit.documents d ON d.file = p.file AND d.number = p.document"""
# All words of the question, any of which may be there.
_SEARCH = """WITH asked AS (SELECT string_agg(quote_literal(lexeme), ' | ')::tsquery AS query
        FROM unnest(to_tsvector('english', %s)))
    SELECT f.first_row + p.number AS row, ts_rank_cd(p.words, asked.query) AS score
    FROM asked, fidkit.passages p JOIN fidkit.files f USING (file)
    WHERE p.corpus = %s AND p.words @@ asked.query ORDER BY score DESC, row LIMIT %s"""


class ServerWords:
    """Full-text search of the server, as a `Retriever`; `name` is of the change that it was made for."""

    def __init__(self, log: Log, state: State) -> None:
        self.name, self._log, self._state = str(state.sequence), log, state

    def search(self, question: str, k: int) -> list[tuple[int, float]]:
        """See `Retriever.search`."""
        asked = question.replace("\0", " ").encode("utf-8", "replace").decode()
        values = (asked, self._state.corpus, k)
        found = self._log.database.run(lambda sql: sql.execute(_SEARCH, values).fetchall())
        return [(int(row), float(score)) for row, score in found]

    def __len__(self) -> int:
        return self._state.passages


class ServerCatalogue:
    """What `Catalogue` tells of a corpus, asked of the server each time."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.directory = Path(log.shown)

    def state(self) -> State:
        return self._log.state()

    def meta(self) -> dict[str, str]:
        """See `Catalogue.meta`."""
        state = self.state()
        facts = {key: str(value) for key, value in state.facts.items()}
        return facts | {
            "sources": json.dumps(state.facts.get("sources", [])),
            "passages": str(state.passages),
            "fingerprint": state.fingerprint,
            "generation": str(state.sequence),
            "sequence": str(state.sequence),
            "vectors": "",
        }

    def names(self) -> tuple[str, ...]:
        """Of what is searched: the last change."""
        return (str(self.state().sequence),)

    def state_number(self) -> int:
        """See `Catalogue.state_number`."""
        return self.state().sequence

    def one_state(self) -> AbstractContextManager[None]:
        """Several questions may be of several states here; what is found is compared with `names`."""
        return nullcontext()

    def files(self) -> list[FileRecord]:
        """See `Catalogue.files`."""
        return self._ask(files_of)

    def passages_if(self, name: str, rows: Sequence[int]) -> list[Passage] | None:
        """See `Catalogue.passages_if`."""
        # A row always means one passage. Where one is gone, the search was of an earlier state.
        found = self._ask(lambda sql, corpus: sql.execute(_ROWS, (list(rows), corpus)).fetchall())
        of_row = dict(self._read(found))
        return [of_row[row] for row in rows] if of_row.keys() == set(rows) else None

    def by_id(self, ids: Sequence[str]) -> dict[str, Passage]:
        """See `Catalogue.by_id`."""
        found = self._passages(f"{_PASSAGES} AND p.corpus = f.corpus AND p.id = ANY(%s)", (list(ids),))
        return {passage.id: passage for _, passage in found}

    def passages(self) -> Iterator[Passage]:
        """All passages, in the order of the sources; file by file, as they are when the iteration begins."""
        for file in self.files():
            query = f"{_PASSAGES} AND f.file = %s ORDER BY p.number"
            found = self._passages(query, (file.file,))
            if len(found) != file.passages:
                raise CorpusError(f"{self._log.shown}: {file.name} was changed meanwhile; begin again")
            yield from (passage for _, passage in found)

    def document(self, source: str) -> DocumentRecord | None:
        """See `Catalogue.document`."""
        for name, member in names_of(source):
            for found in self._documents("AND f.name = %s AND d.member = %s", (name, member)):
                return found
        return None

    def documents_with_notes(self) -> list[DocumentRecord]:
        """See `Catalogue.documents_with_notes`."""
        return self._documents("AND d.notes != '[]' ORDER BY f.position, d.number", ())

    def documents_in_files(self) -> Iterator[InFile]:
        """See `Catalogue.documents_in_files`."""
        query = """SELECT f.file, f.name, f.path, f.mtime_ns, f.first_row, f.passages,
            f.first_document + d.number, coalesce(d.member, ''), coalesce(d.facts, '{}')
            FROM fidkit.files f LEFT JOIN fidkit.documents d USING (file)
            WHERE f.corpus = %s AND f.passages > 0 ORDER BY f.file, d.number"""
        for file, name, path, time, first, count, document, member, facts in self._rows(query):
            said = {str(key).casefold(): str(value) for key, value in json.loads(facts).items()}
            yield InFile(file, name, path, time, first, count, document, member, said)

    def spans_of_documents(self, first_row: int, last_row: int) -> dict[int | None, tuple[int, int]]:
        """See `Catalogue.spans_of_documents`."""
        query = """SELECT f.first_document + p.document, min(f.first_row + p.number),
            max(f.first_row + p.number) FROM fidkit.files f JOIN fidkit.passages p USING (file)
            WHERE f.corpus = %s AND f.first_row BETWEEN %s AND %s GROUP BY 1"""
        return {document: (low, high) for document, low, high in self._rows(query, (first_row, last_row))}

    def blob(self, document: int, column: Literal["map", "boxes", "text"]) -> bytes:
        """See `Catalogue.blob`."""
        query = f"""SELECT d.{column} FROM fidkit.documents d JOIN fidkit.files f USING (file)
            WHERE f.corpus = %s AND f.first_document + d.number = %s"""
        return next((bytes(found) for (found,) in self._rows(query, (document,))), b"")

    def sources(self, limit: int) -> list[str]:
        """See `Catalogue.sources`."""
        return [found.source for found in self._documents("LIMIT %s", (limit,))]

    def count(self, table: Literal["documents", "passages"]) -> int:
        """See `Catalogue.count`."""
        query = f"SELECT count(*) FROM fidkit.{table} JOIN fidkit.files f USING (file) WHERE f.corpus = %s"
        return int(self._rows(query)[0][0])

    def close(self) -> None:
        """The connections are closed by whoever opened them."""

    def _ask(self, work: Callable[[Connection, int], T]) -> T:
        corpus = self.state().corpus
        return self._log.database.run(lambda sql: work(sql, corpus))

    def _rows(self, query: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        def asked(sql: Connection, corpus: int) -> list[tuple[Any, ...]]:
            return sql.execute(query, (corpus, *values)).fetchall()

        return self._ask(asked)

    def _passages(self, query: str, values: Iterable[Any]) -> list[tuple[int, Passage]]:
        return self._read(self._rows(query, values))

    def _read(self, records: Iterable[tuple[Any, ...]]) -> list[tuple[int, Passage]]:
        found = []
        for row, key, title, text, name, member, start, end in records:
            source = source_of(name, member or "")
            span = source if start is None else f"{source}:{start}-{end}"
            found.append((row, Passage(key, title, text, span)))
        return found

    def _documents(self, which: str, values: Iterable[Any]) -> list[DocumentRecord]:
        return [
            DocumentRecord(
                number, source_of(name, member), member, title, json.loads(facts), tuple(json.loads(notes)),
                path, sha256,
            )
            for number, name, member, title, facts, notes, path, sha256 in self._rows(
                f"{_DOCUMENTS} {which}", values
            )
        ]  # fmt: skip


def make_words(log: Log) -> None:
    """Have the server search in this database by words; every write keeps that up to date.

    Raises:
        CorpusError: the user may not change tables.
    """

    def made(connection: Connection) -> None:
        for statement in () if has_words(connection) else MAKE_WORDS:
            connection.execute(statement)

    log.database.run(made)


def has_words(connection: Connection) -> bool:
    """Whether the server searches in this database."""
    query = """SELECT count(*) FROM pg_attribute
        WHERE attrelid = 'fidkit.passages'::regclass AND attname = 'words'"""
    found = connection.execute(query).fetchone()
    return found is not None and found[0] == 1
