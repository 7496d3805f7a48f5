"""The manifest of a memory: which row is where, in SQLite (WAL).

Rows are addressed by the content of their passages, so a row can be unused but never stale. A removed
row leaves its bytes in the shard, where they are dead until the shard is compacted away.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from fidkit.database import current, has_table, is_changed, is_damage, open_to_read, open_to_write
from fidkit.disk import sync
from fidkit.errors import MemoryStoreError
from fidkit.memory.index import Index
from fidkit.memory.layout import FORMAT_VERSION, MANIFEST, is_shard, refuse_link
from fidkit.paths import is_whole_number

_TABLES = (
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # `offset` and `record_bytes` say where a shard's records begin and how long one is.
    """CREATE TABLE IF NOT EXISTS shards (
        shard INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
        bytes INTEGER NOT NULL, rows INTEGER NOT NULL, tokens INTEGER NOT NULL,
        live_rows INTEGER NOT NULL, live_tokens INTEGER NOT NULL,
        offset INTEGER NOT NULL, record_bytes INTEGER NOT NULL)""",
    # `start` and `tokens` in tokens, `crc` of the row's bytes.
    """CREATE TABLE IF NOT EXISTS rows (
        key BLOB PRIMARY KEY, shard INTEGER NOT NULL, start INTEGER NOT NULL, tokens INTEGER NOT NULL,
        crc INTEGER NOT NULL) WITHOUT ROWID""",
    # Shards outside the memory's own folder that are not, or no longer, named above: to be deleted.
    "CREATE TABLE IF NOT EXISTS loose (name TEXT PRIMARY KEY)",
)
_SCRATCH = "CREATE TEMP TABLE IF NOT EXISTS some (key BLOB PRIMARY KEY) WITHOUT ROWID"
_PLACES = """SELECT r.key, s.name, s.offset, r.start, r.tokens, s.record_bytes, s.bytes, r.crc
    FROM rows r JOIN shards s USING (shard) WHERE r.key IN """
_MOST_PARAMETERS = 500
_BATCH = 10_000


class Place(NamedTuple):
    """Where a row is: bytes `offset` to `offset + size` of a shard."""

    shard: str
    offset: int
    size: int
    tokens: int
    crc: int


class ShardRecord(NamedTuple):
    """A shard as the manifest knows it; `live_*` count what was not removed."""

    shard: int
    name: str
    bytes: int
    rows: int
    tokens: int
    live_rows: int
    live_tokens: int
    offset: int
    record_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryMeta:
    """What all rows of a memory have in common.

    Attributes:
        fingerprint: of the reader's memory encoder, tokenizer and split (`fidkit.precompute`).
        reader: name or path of the reader it was built with, for messages.
        codec, codebooks: name and fingerprint of the codec.
        precision: what memory was computed in, `float32` or `bfloat16`.
        width: D, of the decoded vectors.
        memory_layers: how many encoder layers are precomputed.
        shards_at: where shards lie; empty for the memory's own folder.
        generation: grows with every change.
        format_version: of manifest and shards.
    """

    fingerprint: str
    reader: str
    codec: str
    codebooks: str
    precision: str
    width: int
    memory_layers: int
    shards_at: str = ""
    generation: int = 0
    format_version: int = FORMAT_VERSION

    def same_rows(self, other: MemoryMeta) -> bool:
        """Whether rows of both may stand side by side."""
        return self._kind() == other._kind()

    def _kind(self) -> tuple[str, str, str, str, int]:
        return self.fingerprint, self.codec, self.codebooks, self.precision, self.width


_NUMBERS = ("width", "memory_layers", "generation", "format_version")
_LONGEST_DIGEST = 128
_WIDEST = 1 << 20  # far more than any reader


class Manifest:
    """One connection. Threads may share it: each call is one transaction, one at a time."""

    def __init__(self, connection: sqlite3.Connection, directory: Path) -> None:
        self.directory = directory
        self._sql = connection
        self._lock = threading.Lock()

    @classmethod
    def for_reading(cls, directory: Path) -> Manifest:
        """Open the manifest in a memory directory.

        Raises:
            MemoryStoreError: there is none, or it is damaged.
        """
        refuse_link(directory)
        if not (directory / MANIFEST).exists():
            raise _absent(directory)
        try:
            connection = open_to_read(directory / MANIFEST, _TABLES)
        except sqlite3.DatabaseError as error:
            raise _damaged(directory, error) from error
        if not has_table(connection, "meta"):
            connection.close()
            raise _absent(directory)
        return cls(connection, directory)

    @classmethod
    def for_writing(cls, directory: Path) -> Manifest:
        """Open or create. Only with the writer's lock.

        Raises:
            MemoryStoreError: of a newer format, or damaged.
        """
        try:
            # Durable: after a power cut the manifest must not name a shard that was deleted already.
            connection = open_to_write(directory / MANIFEST, _TABLES)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                raise _damaged(directory, error) from error
            raise
        manifest = cls(connection, directory)
        try:
            if has_table(connection, "meta"):
                manifest.meta()
            for table in (*_TABLES, _SCRATCH):
                connection.execute(table)
        except BaseException:
            connection.close()
            raise
        return manifest

    def close(self) -> None:
        with self._lock:
            self._sql.close()

    # Reading

    def meta(self) -> MemoryMeta | None:
        """What the rows have in common; None for a memory that was never begun.

        Raises:
            MemoryStoreError: written by a newer version of the format, or damaged.
        """
        with self._transaction("BEGIN"):
            return self._meta()

    def places(self, keys: Sequence[bytes]) -> tuple[MemoryMeta | None, dict[bytes, Place]]:
        """Where the rows of these keys are, as far as they are stored; all of one generation."""
        found = {}
        with self._transaction("BEGIN"):
            meta = self._meta()
            for at in range(0, len(keys), _MOST_PARAMETERS):
                some = keys[at : at + _MOST_PARAMETERS]
                query = f"{_PLACES} ({','.join('?' * len(some))})"
                for key, *facts in self._sql.execute(query, some):
                    found[key] = self._place(*facts)
        return meta, found

    def shards(self) -> list[ShardRecord]:
        """All shards, in the order of their commit."""
        with self._transaction("BEGIN"):
            return self._shards()

    def rows_of(self, index: Index) -> dict[bytes, Place]:
        """Which rows of a shard are live in it, and where."""
        live = self.places(index.key_list())[1]
        return {key: place for key, place in live.items() if place.shard == index.name}

    def loose(self) -> list[str]:
        """Shards that may lie outside without being in use."""
        with self._transaction("BEGIN"):
            names = [name for (name,) in self._sql.execute("SELECT name FROM loose ORDER BY name")]
        for name in names:
            self._require_name(name)
        return names

    def missing(self, keys: Iterable[bytes]) -> Iterator[bytes]:
        """Those of the keys that are not stored, in their order, as often as they occur."""
        remaining = iter(keys)
        while some := list(islice(remaining, _MOST_PARAMETERS)):
            query = f"SELECT key FROM rows WHERE key IN ({','.join('?' * len(some))})"
            with self._transaction("BEGIN"):
                known = {key for (key,) in self._sql.execute(query, some)}
            yield from (key for key in some if key not in known)

    def copy_to(self, file: Path) -> None:
        """Write all of it, as it is at one moment, into a new file, which is safe on the disk then."""
        with self._lock, closing(sqlite3.connect(file)) as copy:
            self._sql.backup(copy)
        sync(file)

    # Writing

    def begin(self, meta: MemoryMeta) -> None:
        """Say what the rows will have in common, and forget all rows and shards that were there."""
        with self._change():
            old = self._meta()
            self._loosen([shard.name for shard in self._shards()])
            for table in ("rows", "shards"):
                self._sql.execute(f"DELETE FROM {table}")
            values = {name: str(getattr(meta, name)) for name in MemoryMeta.__slots__}
            values["generation"] = str(old.generation if old else 0)
            values["format_version"] = str(FORMAT_VERSION)
            self._sql.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))

    def loosen(self, names: Sequence[str]) -> None:
        """Note shards that will lie outside before they are used."""
        with self._transaction("BEGIN IMMEDIATE"):
            self._loosen(names)

    def deleted(self, names: Sequence[str]) -> None:
        """Note that shards are gone."""
        with self._transaction("BEGIN IMMEDIATE"):
            self._sql.executemany("DELETE FROM loose WHERE name = ?", [(name,) for name in names])

    def add(self, index: Index | None, instead_of: Sequence[str] = ()) -> None:
        """Name a shard and its rows, at once.

        Args:
            index: of the shard. Rows that are stored in another shard stay there. A shard that is known
                already has all its rows again.
            instead_of: shards whose live rows are all in the new one and which are forgotten.
        """
        with self._change():
            gone = [shard for shard in self._shards() if shard.name in {*instead_of, index and index.name}]
            self._loosen([shard.name for shard in gone])
            self._sql.executemany("DELETE FROM shards WHERE shard = ?", [(shard.shard,) for shard in gone])
            if index:
                self._add(index, [shard.shard for shard in gone])

    def _add(self, index: Index, gone: Sequence[int]) -> None:
        facts = (index.name, index.size, index.rows, index.tokens, 0, 0, index.offset, index.record_bytes)
        shard = self._sql.execute(
            f"INSERT INTO shards VALUES (NULL, {','.join('?' * len(facts))})", facts
        ).lastrowid
        columns = (index.starts.tolist(), index.lengths.tolist(), index.checks.tolist())
        # In the order of keys, which is that of the table on the disk.
        rows = sorted(zip(index.key_list(), *columns, strict=True))
        self._sql.executemany(
            f"""INSERT INTO rows VALUES (?, {shard}, ?, ?, ?) ON CONFLICT (key) DO UPDATE
            SET shard = excluded.shard, start = excluded.start, tokens = excluded.tokens, crc = excluded.crc
            WHERE shard IN ({",".join(map(str, gone))})""",
            rows,
        )
        self._fill_some(key for key, *_ in rows)
        self._sql.execute(
            f"""UPDATE shards SET (live_rows, live_tokens) = (SELECT COUNT(*), COALESCE(SUM(tokens), 0)
            FROM rows WHERE key IN (SELECT key FROM some) AND shard = {shard}) WHERE shard = {shard}"""
        )
        self._sql.execute("DELETE FROM loose WHERE name = ?", (index.name,))

    def forget(self, names: Sequence[str]) -> int:
        """Forget shards with all their rows; how many rows that were."""
        count = 0
        with self._change():
            self._loosen(names)
            for name in names:
                which = "shard IN (SELECT shard FROM shards WHERE name = ?)"
                count += self._sql.execute(f"DELETE FROM rows WHERE {which}", (name,)).rowcount
                self._sql.execute("DELETE FROM shards WHERE name = ?", (name,))
        return count

    def remove(self, keys: Iterable[bytes]) -> int:
        """Remove rows; how many of them there were."""
        return self._delete(keys, "key IN (SELECT key FROM some)")

    def keep_only(self, keys: Iterable[bytes]) -> int:
        """Remove all rows but these; how many were removed."""
        return self._delete(keys, "key NOT IN (SELECT key FROM some)")

    def _delete(self, keys: Iterable[bytes], which: str) -> int:
        with self._change():
            self._fill_some(keys)
            less = self._sql.execute(
                f"SELECT COUNT(*), SUM(tokens), shard FROM rows WHERE {which} GROUP BY shard"
            ).fetchall()
            self._sql.executemany(
                "UPDATE shards SET live_rows = live_rows - ?, live_tokens = live_tokens - ? WHERE shard = ?",
                less,
            )
            return self._sql.execute(f"DELETE FROM rows WHERE {which}").rowcount

    def _fill_some(self, keys: Iterable[bytes]) -> None:
        self._sql.execute("DELETE FROM some")
        remaining = iter(keys)
        while batch := [(key,) for key in islice(remaining, _BATCH)]:
            self._sql.executemany("INSERT OR IGNORE INTO some VALUES (?)", batch)

    def _loosen(self, names: Sequence[str]) -> None:
        self._sql.executemany("INSERT OR IGNORE INTO loose VALUES (?)", [(name,) for name in names])

    def _shards(self) -> list[ShardRecord]:
        shards = [ShardRecord(*row) for row in self._sql.execute("SELECT * FROM shards ORDER BY shard")]
        for shard in shards:
            self._require_name(shard.name)
            if not all(map(is_whole_number, (shard.shard, *shard[2:]))):
                raise _damaged(self.directory, f"impossible numbers of {shard.name}")
        return shards

    def _place(
        self, name: Any, offset: Any, start: Any, tokens: Any, record_bytes: Any, size: Any, crc: Any
    ) -> Place:
        """Where a row is, if that is within its shard as the manifest knows it."""
        self._require_name(name)
        numbers = (offset, start, tokens, record_bytes, size, crc)
        if not all(map(is_whole_number, numbers)) or offset + (start + tokens) * record_bytes > size:
            raise _damaged(self.directory, f"a row lies outside its shard {name}")
        return Place(name, offset + start * record_bytes, tokens * record_bytes, tokens, crc)

    def _require_name(self, name: object) -> None:
        if not is_shard(name):
            raise _damaged(self.directory, f"{name!r:.99} is not the name of a shard")

    def _meta(self) -> MemoryMeta | None:
        fields = dict(self._sql.execute("SELECT key, value FROM meta").fetchall())
        if not fields:
            return None
        try:
            return self._parsed(fields)
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(self.directory, f"its facts are not whole: {error}") from error

    def _parsed(self, fields: dict[str, str]) -> MemoryMeta:
        version = int(fields["format_version"])
        if version > FORMAT_VERSION:
            raise MemoryStoreError(
                f"{self.directory}: this memory has format version {version}, this fidkit reads up to "
                f"{FORMAT_VERSION}; upgrade fidkit, or delete the directory and build the memory again"
            )
        known = {name: str(fields[name]) for name in MemoryMeta.__slots__}
        meta = MemoryMeta(**{n: int(v) if n in _NUMBERS else v for n, v in known.items()})  # type: ignore[arg-type]
        if not 1 <= meta.width <= _WIDEST or not all(is_whole_number(getattr(meta, n)) for n in _NUMBERS):
            raise ValueError("impossible numbers")
        if max(map(len, (meta.fingerprint, meta.codec, meta.codebooks))) > _LONGEST_DIGEST:
            raise ValueError("impossible fingerprints")
        return meta

    @contextmanager
    def _change(self) -> Iterator[None]:
        with self._transaction("BEGIN IMMEDIATE"):
            yield
            self._sql.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'generation'")
        # Best effort: a reader may hold the log; the commit stands.
        with suppress(sqlite3.OperationalError), self._lock:
            self._sql.execute("PRAGMA wal_checkpoint(PASSIVE)")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with self._lock:
            try:
                self._sql = current(self._sql)
                self._sql.execute(begin)
                try:
                    yield
                    self._sql.execute("COMMIT")
                finally:
                    # A transaction that could not be committed, for instance on a full disk.
                    if self._sql.in_transaction:
                        self._sql.execute("ROLLBACK")
            except sqlite3.ProgrammingError as error:
                raise MemoryStoreError(f"{self.directory}: this memory was closed; open it again") from error
            except sqlite3.DatabaseError as error:
                if is_changed(self._sql):
                    raise _changed(self.directory) from error
                if is_damage(error):
                    raise _damaged(self.directory, error) from error
                raise
            if is_changed(self._sql):
                raise _changed(self.directory)


def _absent(directory: Path) -> MemoryStoreError:
    return MemoryStoreError(
        f"{directory.parent} has no memory; build it with `fidkit memory build {directory.parent} "
        "--reader READER`"
    )


def _changed(directory: Path) -> MemoryStoreError:
    return MemoryStoreError(
        f"{directory}: a build wrote to its manifest while it was read, in a directory where this user can't "
        "write and so takes no locks; ask again"
    )


def _damaged(directory: Path, error: sqlite3.Error | str) -> MemoryStoreError:
    return MemoryStoreError(
        f"{directory}: its manifest can't be read ({error}); delete the directory and build the memory again"
    )
