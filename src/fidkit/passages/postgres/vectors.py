"""Vectors of passages in the database, block by block, as replicas take them.

They lie beside the log. A file's vectors follow from its passages, which never change, so they may come later
than the file, and go with it. A record holds those of a block, up to 1,024 passages of a file: keys, scales
and numbers as shards have them (`fidkit.passages.search.vectors`), but no codes and checks, which follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection

from fidkit.passages.local.records import FileRecord
from fidkit.passages.postgres.log import Log
from fidkit.passages.search.encoder import VectorEncoder
from fidkit.passages.search.vectors import Entries, of_numbers

BLOCK = 1024
_AT_ONCE = 8192  # passages of one transaction that reads vectors, 3 MB of them
_KEY_BYTES = 16


class Block(NamedTuple):
    """Passages of a file, from one on.

    Attributes:
        file: its number.
        number: of the first passage in the file.
        row: of the first passage in the corpus.
        passages: how many there are.
    """

    file: int
    number: int
    row: int
    passages: int


def blocks(files: Iterable[FileRecord]) -> list[Block]:
    """The blocks of some files: the same ones, whoever asks."""
    return [
        Block(file.file, number, file.first_row + number, min(BLOCK, file.passages - number))
        for file in sorted(files)
        for number in range(0, file.passages, BLOCK)
    ]


def taken(
    log: Log, corpus: int, files: Sequence[FileRecord], encoder: VectorEncoder, rows: NDArray[np.int64]
) -> Iterator[Entries]:
    """Vectors that the database has of some rows, ascending; none where it has those of another encoder.

    Raises:
        AwayError: the server can't be reached.
    """
    of_rows = [block for block in blocks(files) if _has_any(block, rows)]
    for some in batches(of_rows, _AT_ONCE):
        for made in log.database.run(partial(_read, corpus=corpus, some=some, encoder=encoder)):
            yield made.take(np.flatnonzero(np.isin(made.rows, rows)))


def _read(sql: Connection, corpus: int, some: Sequence[Block], encoder: VectorEncoder) -> list[Entries]:
    """Vectors of blocks, of those that have some by this encoder."""
    query = """SELECT b.row, b.passages, v.keys, v.scales, v.vectors
        FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) b(file, number, row, passages)
        JOIN fidkit.vectors v USING (file, number)
        JOIN fidkit.encoders e ON e.corpus = %s AND e.fingerprint = %s"""
    found = sql.cursor(binary=True).execute(query, (*columns(some), corpus, encoder.fingerprint))
    return [
        of_numbers(
            np.arange(row, row + count),
            np.frombuffer(keys, np.uint8).reshape(count, _KEY_BYTES),
            np.frombuffer(scales, "<f4"),
            np.frombuffer(vectors, np.int8).reshape(count, encoder.dimension),
        )
        for row, count, keys, scales, vectors in found
    ]


def columns(some: Sequence[Block]) -> tuple[list[int], ...]:
    """Blocks as arrays of file, number, row and passages."""
    return tuple(map(list, zip(*some, strict=True)))


def batches(all_of_them: Iterable[Block], most: int) -> Iterator[list[Block]]:
    """Blocks in groups of about so many passages."""
    batch: list[Block] = []
    for block in all_of_them:
        if batch and sum(one.passages for one in batch) + block.passages > most:
            yield batch
            batch = []
        batch.append(block)
    if batch:
        yield batch


def _has_any(block: Block, rows: NDArray[np.int64]) -> bool:
    first, last = np.searchsorted(rows, (block.row, block.row + block.passages))
    return bool(last > first)
