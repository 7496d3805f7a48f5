"""Search by meaning by the server, with pgvector: vectors of 16 bits a number, each of which is looked at.

The table for that is made by the first build with `?replica=none` whose corpus has vectors, and filled from
those (`fidkit.passages.postgres.vectors`). Whoever makes more vectors fills it from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection, errors

from fidkit.errors import CorpusError
from fidkit.passages.postgres.log import Log, State
from fidkit.passages.postgres.schema import rights
from fidkit.passages.search.dense import Allowed
from fidkit.passages.search.encoder import VectorEncoder
from fidkit.passages.search.vectors import of_another_encoder

_TABLE = (
    """CREATE TABLE fidkit.by_meaning (
        corpus integer NOT NULL, row bigint NOT NULL,
        file bigint NOT NULL REFERENCES fidkit.files ON DELETE CASCADE, vector halfvec NOT NULL,
        PRIMARY KEY (corpus, row))""",
    "CREATE INDEX by_meaning_by_file ON fidkit.by_meaning (file)",
    # A vector that lay apart from its row would have to be fetched for each passage of each search.
    "ALTER TABLE fidkit.by_meaning ALTER vector SET STORAGE MAIN",
    rights("fidkit.by_meaning"),
)
_FILLED_AT_ONCE = 32  # blocks
# The product of two vectors, which pgvector gives with the other sign.
_SEARCH = """SELECT row, vector <#> %s::halfvec AS far FROM fidkit.by_meaning
    WHERE corpus = %s AND (%s::int8multirange IS NULL OR row <@ %s::int8multirange)
    ORDER BY far, row LIMIT %s"""
_SCORES = """SELECT row, vector <#> %s::halfvec FROM fidkit.by_meaning
    WHERE corpus = %s AND row = ANY(%s)"""
_UNFILLED = """SELECT f.first_row + v.number, f.file, v.scales, v.vectors
    FROM fidkit.vectors v JOIN fidkit.files f USING (file)
    WHERE f.corpus = %s AND NOT EXISTS (
        SELECT FROM fidkit.by_meaning m WHERE m.corpus = f.corpus AND m.row = f.first_row + v.number)
    ORDER BY f.file LIMIT %s FOR KEY SHARE OF f"""


class ServerMeaning:
    """Vectors searched by the server, as a `Scorer`; `name` is of the change that it was made for."""

    def __init__(self, log: Log, state: State, encoder: VectorEncoder) -> None:
        """Begin.

        Args:
            log: of the corpus.
            state: of it.
            encoder: the one that its vectors were made with, or that knows it (`others`), for questions.

        Raises:
            CorpusError: there are no vectors that the server searches, or those of another encoder.
        """
        if state.encoder is None or not log.database.run(has_meaning):
            raise CorpusError(
                f"{log.shown}: the server doesn't search by meaning here yet; run `fidkit corpus build "
                f"SOURCE --to '{log.shown}' --vectors` once, search by words, or leave replica=none out"
            )
        name, fingerprint, dimension = state.encoder
        found = encoder.that_made(fingerprint, dimension)
        if found is None:
            raise of_another_encoder(log.shown, name, fingerprint, dimension, encoder)
        self.name, self._log, self._state, self._encoder = str(state.sequence), log, state, found
        self._asked: dict[str, str] = {}

    def search(self, question: str, k: int, allowed: Allowed | None = None) -> list[tuple[int, float]]:
        """See `Scorer.search`."""
        return self.search_all([question], k, allowed)[0]

    def search_all(
        self, questions: Sequence[str], k: int, allowed: Allowed | None = None
    ) -> list[list[tuple[int, float]]]:
        """Of each question the k best (row, score), best first, equal scores by row.

        Every allowed vector is looked at.
        """
        ranges = None if allowed is None else _ranges(allowed)
        return [
            self._rows(_SEARCH, (vector, self._state.corpus, ranges, ranges, k))
            for vector in self._of_questions(questions)
        ]

    def score(self, question: str, rows: Sequence[int]) -> list[float | None]:
        """See `Scorer.score`."""
        [vector] = self._of_questions([question])
        scores = dict(self._rows(_SCORES, (vector, self._state.corpus, list(rows))) if rows else [])
        return [scores.get(row) for row in rows]

    def __len__(self) -> int:
        """Number of passages."""
        return count(self._log)

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[tuple[int, float]]:
        found = self._log.database.run(lambda sql: sql.execute(query, values).fetchall())
        return [(int(row), -float(far)) for row, far in found]

    def _of_questions(self, questions: Sequence[str]) -> list[str]:
        """Vectors as pgvector reads them; each question is encoded once."""
        missing = [question for question in dict.fromkeys(questions) if question not in self._asked]
        if missing:
            vectors_QD = self._encoder.of_questions(missing)
            self._asked |= {
                question: f"[{','.join(map(str, vector_D.tolist()))}]"
                for question, vector_D in zip(missing, vectors_QD, strict=True)
            }
        return [self._asked[question] for question in questions]


def count(log: Log) -> int:
    """How many passages of a corpus the server finds by meaning."""

    def counted(sql: Connection) -> int:
        query = "SELECT count(*) FROM fidkit.by_meaning WHERE corpus = %s"
        found = sql.execute(query, (log.seen_by(sql).corpus,)).fetchone() if has_meaning(sql) else (0,)
        return 0 if found is None else int(found[0])

    return log.database.run(counted)


def has_meaning(sql: Connection) -> bool:
    """Whether the server has a table for search by meaning."""
    return sql.execute("SELECT to_regclass('fidkit.by_meaning') IS NOT NULL").fetchone() == (True,)


def make_meaning(log: Log) -> None:
    """Have the server search in this database by meaning.

    Raises:
        CorpusError: it has no pgvector, or the user may not make it part of the database; says what to run.
    """

    def made(sql: Connection) -> None:
        if has_meaning(sql):
            return
        offered = sql.execute("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'").fetchone()
        if offered == (0,):
            raise CorpusError(
                f"{log.shown}: to search by meaning, the server needs pgvector 0.7 or newer, and it isn't "
                "installed there; have it installed and run CREATE EXTENSION vector in this database, build "
                "with --no-vectors, or leave replica=none out"
            )
        try:
            sql.execute("CREATE EXTENSION IF NOT EXISTS vector")
            for statement in _TABLE:
                sql.execute(statement)
        except errors.InsufficientPrivilege as error:
            said = " ".join(str(error).split())
            raise CorpusError(
                f"{log.shown}: this user may not have the server search by meaning ({said}); have the owner "
                "of the database run CREATE EXTENSION vector and this build once, build with --no-vectors, "
                "or leave replica=none out"
            ) from error
        except errors.UndefinedObject as error:
            raise CorpusError(
                f"{log.shown}: to search by meaning, the server needs pgvector 0.7 or newer, and has an "
                "older one; have its owner run ALTER EXTENSION vector UPDATE, build with --no-vectors, or "
                "leave replica=none out"
            ) from error

    log.database.run(made)


def fill(log: Log, corpus: int, dimension: int, tell: Callable[[], None]) -> None:
    """Have the server search all vectors that the database has of a corpus."""

    def filled(sql: Connection) -> bool:
        # One at a time, so that no row comes twice.
        sql.execute("SELECT pg_advisory_xact_lock(%s, hashtext('by meaning'))", (corpus,))
        found = sql.cursor(binary=True).execute(_UNFILLED, (corpus, _FILLED_AT_ONCE)).fetchall()
        copied = "COPY fidkit.by_meaning FROM STDIN (FORMAT binary)"
        with sql.cursor() as cursor, cursor.copy(copied) as copy:
            copy.write(_HEAD)
            for row, file, scales, vectors in found:
                numbers_ND = np.frombuffer(vectors, np.int8).reshape(-1, dimension)
                products_ND = numbers_ND * np.frombuffer(scales, "<f4")[:, None]
                copy.write(_records(corpus, row, file, products_ND))
            copy.write(_END)
        return bool(found)

    while log.database.run(filled):
        tell()


# PostgreSQL's binary format of COPY, as its manual has it.
_HEAD, _END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"


def _records(corpus: int, first_row: int, file: int, vectors_ND: NDArray[np.float32]) -> bytes:
    """Rows of `by_meaning` in that format: before each column comes its length."""
    count, dimension = vectors_ND.shape
    records = np.zeros(
        count,
        [
            ("columns", ">i2"),
            *[("corpus_bytes", ">i4"), ("corpus", ">i4"), ("row_bytes", ">i4"), ("row", ">i8")],
            *[("file_bytes", ">i4"), ("file", ">i8"), ("vector_bytes", ">i4"), ("dimension", ">i2")],
            *[("unused", ">i2"), ("numbers", ">f2", (dimension,))],
        ],
    )
    records["columns"], records["corpus_bytes"], records["corpus"] = 4, 4, corpus
    records["row_bytes"], records["row"] = 8, np.arange(first_row, first_row + count)
    records["file_bytes"], records["file"] = 8, file
    records["vector_bytes"], records["dimension"] = 4 + 2 * dimension, dimension
    records["numbers"] = vectors_ND
    return records.tobytes()


def _ranges(allowed: Allowed) -> str:
    """Allowed rows as PostgreSQL reads ranges of them: `{[1,4),[9,10)}`."""
    rows = np.flatnonzero(allowed) if allowed.dtype == bool else allowed
    ends = np.flatnonzero(np.diff(rows) != 1)
    firsts, lasts = rows[np.r_[0, ends + 1][: len(rows)]], rows[np.r_[ends, -1][: len(rows)]]
    return f"{{{','.join(f'[{a},{b + 1})' for a, b in zip(firsts.tolist(), lasts.tolist(), strict=True))}}}"
