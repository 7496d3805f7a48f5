"""Vectors of a corpus in the database, made by who builds it, so that nobody else needs to."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import numpy as np
from psycopg import Connection

from fidkit.errors import CorpusError
from fidkit.passages.local.amounts import MOST_UNASKED
from fidkit.passages.local.report import BuildProgress
from fidkit.passages.local.vectors import EncoderSource
from fidkit.passages.postgres import server_meaning
from fidkit.passages.postgres.change import files_of
from fidkit.passages.postgres.feeding import Tell
from fidkit.passages.postgres.log import Log, State
from fidkit.passages.postgres.replica import Replica
from fidkit.passages.postgres.vectors import BLOCK, Block, batches, blocks, columns
from fidkit.passages.search.encoder import VectorEncoder
from fidkit.passages.search.vector_writer import VectorMaker
from fidkit.passages.search.vectors import Entries, joined

_log = logging.getLogger(__name__)


def share(log: Log, replica: Replica | None, source: EncoderSource | None, tell: Tell | None) -> None:
    """Make the vectors that the corpus is to have and hasn't, block by block; what was made stays.

    Args:
        log: of a corpus that was just built; how it is to have vectors is among its facts.
        replica: of this machine, whose vectors are used again; None where it keeps none.
        source: gives the encoder. Without one, new passages stay without vectors.
        tell: called now and then.

    Raises:
        CorpusError: another build makes vectors with another encoder.
    """
    state = log.state()
    wanted = state.facts.get("vectors")
    if wanted is False:
        log.database.run(lambda sql: _forget(sql, state.corpus))
    elif source is not None and (wanted or state.encoder or state.passages <= MOST_UNASKED):
        given = source()
        encoder = given if state.encoder is None else given.that_made(*state.encoder[1:]) or given
        if replica is None:
            _let_server_search(log)
        _Sharing(log, state, encoder, replica, tell).run()
    elif state.encoder is not None and (missing := _missing(log, state.corpus)):
        _log.warning(
            "%s: %s passages have no vectors, since no encoder was given; they are found by words until "
            "`fidkit corpus build` makes them",
            log.shown, f"{sum(block.passages for block in missing):,}",
        )  # fmt: skip


class _Sharing:
    def __init__(
        self, log: Log, state: State, encoder: VectorEncoder, replica: Replica | None, tell: Tell | None
    ) -> None:
        self._log, self._state, self._encoder = log, state, encoder
        self._replica, self._tell_them = replica, tell

    def run(self) -> None:
        database, corpus = self._log.database, self._state.corpus
        database.run(self._claim)
        if missing := _missing(self._log, corpus):
            base = [] if self._replica is None else self._replica.shards(self._encoder)
            maker = VectorMaker(self._encoder, base)
            for some in batches(missing, BLOCK):
                self._tell()
                if made := maker.entries(database.run(partial(_texts, some=some))):
                    database.run(partial(self._put, some=some, made=joined(made)))
        if database.run(server_meaning.has_meaning):
            server_meaning.fill(self._log, corpus, self._encoder.dimension, self._tell)

    def _claim(self, sql: Connection) -> None:
        """Make the vectors of this corpus those of the encoder: those of another one go."""
        found = sql.execute(
            "SELECT fingerprint FROM fidkit.encoders WHERE corpus = %s FOR UPDATE", (self._state.corpus,)
        ).fetchone()
        if found == (self._encoder.fingerprint,):
            return
        _forget(sql, self._state.corpus)
        made_by = self._encoder.name, self._encoder.fingerprint, self._encoder.dimension
        sql.execute("INSERT INTO fidkit.encoders VALUES (%s, %s, %s, %s)", (self._state.corpus, *made_by))

    def _put(self, sql: Connection, some: Sequence[Block], made: Entries) -> None:
        """Write blocks, but for those of files that are gone."""
        found = sql.execute(
            "SELECT fingerprint FROM fidkit.encoders WHERE corpus = %s FOR SHARE", (self._state.corpus,)
        ).fetchone()
        if found != (self._encoder.fingerprint,):
            raise CorpusError(
                f"{self._log.shown}: another build makes vectors of this corpus with another encoder just "
                f"now, or has none made; build it with one encoder (this is {self._encoder.name!r})"
            )
        for block in some:
            first, last = np.searchsorted(made.rows, (block.row, block.row + block.passages))
            if last - first == block.passages:
                of_block = made.take(np.arange(first, last))
                content = (of_block.keys, of_block.scales.astype("<f4"), of_block.vectors)
                sql.execute(
                    "INSERT INTO fidkit.vectors SELECT file, %s, %s, %s, %s FROM fidkit.files "
                    "WHERE file = %s FOR KEY SHARE ON CONFLICT DO NOTHING",
                    (block.number, *(part.tobytes() for part in content), block.file),
                )

    def _tell(self) -> None:
        if self._tell_them:
            self._tell_them(BuildProgress("vectors", 0, 0, self._state.passages))


def _let_server_search(log: Log) -> None:
    try:
        server_meaning.make_meaning(log)
    except CorpusError as error:  # nobody asked for it, or that was said before
        _log.warning("%s; until then passages are found by words", error)


def _forget(sql: Connection, corpus: int) -> None:
    """Have no vectors."""
    sql.execute("DELETE FROM fidkit.encoders WHERE corpus = %s", (corpus,))
    sql.execute(
        "DELETE FROM fidkit.vectors v USING fidkit.files f WHERE v.file = f.file AND f.corpus = %s", (corpus,)
    )
    if server_meaning.has_meaning(sql):
        sql.execute("DELETE FROM fidkit.by_meaning WHERE corpus = %s", (corpus,))


def _missing(log: Log, corpus: int) -> list[Block]:
    """Blocks without vectors."""

    def found(sql: Connection) -> list[Block]:
        query = """SELECT v.file, v.number FROM fidkit.vectors v JOIN fidkit.files f USING (file)
            WHERE f.corpus = %s"""
        here = set(sql.execute(query, (corpus,)).fetchall())
        return [block for block in blocks(files_of(sql, corpus)) if block[:2] not in here]

    return log.database.run(found, snapshot=True)


def _texts(sql: Connection, some: Sequence[Block]) -> list[tuple[int, str, str]]:
    """(row, title, text) of the passages of blocks."""
    query = """SELECT b.row + p.number - b.number, p.title, p.text
        FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) b(file, number, row, passages)
        JOIN fidkit.passages p
            ON p.file = b.file AND p.number >= b.number AND p.number < b.number + b.passages
        ORDER BY 1"""
    return [(int(row), title, text) for row, title, text in sql.execute(query, columns(some))]
