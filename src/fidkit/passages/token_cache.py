"""Token ids of passages, computed once: a passage is tokenised once in its life.

The cache is addressed by content (a hash of title and text), never by passage number or id, so an
entry can be unused but not stale. It belongs to no generation and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fidkit.database import open_to_write
from fidkit.passages.local.layout import TOKENS
from fidkit.types import Passage

Tokenize = Callable[[list[Passage]], list[list[int]]]

_NARROW, _WIDE = np.dtype("<u2"), np.dtype("<u4")
_KEY_BYTES = 16
_MOST_PARAMETERS = 500
_BUSY_SECONDS = 2.0
_TABLE = """CREATE TABLE IF NOT EXISTS tokens (
    tokenizer TEXT NOT NULL, passage BLOB NOT NULL, ids BLOB NOT NULL, PRIMARY KEY (tokenizer, passage)
) WITHOUT ROWID"""


class TokenCache:
    """Token ids by passage for one tokenizer. Safe to use from several threads and processes.

    It is a cache: where it can't be read or written, passages are tokenised again and nobody is told.
    """

    def __init__(self, directory: Path, key: str) -> None:
        """Cache in a corpus directory.

        Args:
            directory: of the corpus; may be read-only.
            key: fingerprint of everything besides title and text that decides the ids: the
                tokenizer, the format of the passage, the length it is cut to.
        """
        self._path = directory / TOKENS
        self._key = key
        self._lock = threading.Lock()
        self._sql: sqlite3.Connection | None = None

    def get(
        self, passages: Sequence[Passage], tokenize: Tokenize, vocabulary_size: int = 1 << 32
    ) -> list[list[int]]:
        """Token ids of the passages, in their order.

        Args:
            passages: any; they need not be of this corpus.
            tokenize: called once at most, with the passages that are not cached (each content once).
            vocabulary_size: of the tokenizer; what is cached with ids beyond it counts as not cached.
        """
        digests = [passage_key(passage) for passage in passages]
        cached = self._load(set(digests))
        known = {digest: ids for digest, ids in cached.items() if max(ids, default=0) < vocabulary_size}
        missing = {
            digest: passage for digest, passage in zip(digests, passages, strict=True) if digest not in known
        }
        if missing:
            fresh = dict(zip(missing, tokenize(list(missing.values())), strict=True))
            self._store(fresh)
            known |= fresh
        return [known[digest] for digest in digests]

    def close(self) -> None:
        """Let go of the file; the next `get` opens it again."""
        with self._lock:
            if self._sql:
                self._sql.close()
            self._sql = None

    def _load(self, digests: set[bytes]) -> dict[bytes, list[int]]:
        wanted = list(digests)
        try:
            with self._lock:
                sql = self._connection()
                found: list[tuple[bytes, bytes]] = []
                for at in range(0, len(wanted), _MOST_PARAMETERS):
                    some = wanted[at : at + _MOST_PARAMETERS]
                    query = (
                        f"SELECT passage, ids FROM tokens WHERE tokenizer = ? AND passage IN ({_marks(some)})"
                    )
                    found += sql.execute(query, (self._key, *some)).fetchall()
        except sqlite3.Error:
            return {}
        unpacked = {digest: _unpack(ids) for digest, ids in found}
        return {digest: ids for digest, ids in unpacked.items() if ids is not None}

    def _store(self, fresh: dict[bytes, list[int]]) -> None:
        rows = [(self._key, digest, _pack(ids)) for digest, ids in fresh.items()]
        try:
            with self._lock:
                sql = self._connection()
                sql.execute("BEGIN IMMEDIATE")
                try:
                    sql.executemany("INSERT OR IGNORE INTO tokens VALUES (?, ?, ?)", rows)
                finally:
                    sql.execute("COMMIT")
        except sqlite3.Error:
            return

    def _connection(self) -> sqlite3.Connection:
        if self._sql is None:
            sql = open_to_write(self._path, [_TABLE], wait_seconds=_BUSY_SECONDS, durable=False)
            try:
                sql.execute(_TABLE)
            except sqlite3.Error:
                sql.close()
                raise
            self._sql = sql
        return self._sql


def passage_key(passage: Passage) -> bytes:
    """16 bytes that stand for title and text: equal for equal content, whatever id it goes by."""
    title, text = (part.encode("utf-8", "surrogatepass") for part in (passage.title, passage.text))
    return hashlib.blake2b(b"%d:%b%b" % (len(title), title, text), digest_size=_KEY_BYTES).digest()


def _pack(ids: Sequence[int]) -> bytes:
    """The width of an id in bytes, then the ids, little-endian."""
    kind = _NARROW if max(ids, default=0) <= np.iinfo(_NARROW).max else _WIDE
    return bytes([kind.itemsize]) + np.asarray(ids, dtype=kind).tobytes()


def _unpack(packed: object) -> list[int] | None:
    """The ids; None for what was never packed here."""
    if not isinstance(packed, bytes) or not packed or packed[0] not in (_NARROW.itemsize, _WIDE.itemsize):
        return None
    kind = _NARROW if packed[0] == _NARROW.itemsize else _WIDE
    if len(packed) % kind.itemsize != 1:
        return None
    ids: list[int] = np.frombuffer(packed, dtype=kind, offset=1).tolist()
    return ids


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
