"""Writes a directory of vectors (`vectors`), from nothing or as the successor of another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fidkit.errors import CorpusError
from fidkit.passages.local.layout import sync_directory
from fidkit.passages.search.encoder import VectorEncoder
from fidkit.passages.search.vectors import (
    INDEX,
    Entries,
    Shard,
    Vectors,
    entries,
    is_shard_name,
    joined,
    open_shard,
    write_index,
    write_shard,
)
from fidkit.passages.token_cache import passage_key
from fidkit.paths import remove
from fidkit.types import Passage

# Texts that an encoder gets at once: enough to put those of one length together.
_BATCH = 1024
# Minutes of encoding, which a build that is ended leaves for the next.
_PART_ROWS = 16_384
_SHARD_ROWS = 131_072
# What was removed is still scanned: past this share, a shard is written afresh.
_PATCHED_SHARE = 0.2


_Some = tuple[Shard, NDArray[np.int64]]
"""Places of a shard."""


class VectorWriter:
    """Writes a new directory of vectors.

    A successor shares the other's shards by hard link and says beside them what of each was removed. A
    passage whose title and text have a vector already, in the other directory or in what a build that was
    ended left in this one, isn't encoded again.
    """

    def __init__(self, directory: Path, encoder: VectorEncoder, base: Path | None = None) -> None:
        """Begin.

        Args:
            directory: new, or left unfinished by a build that was ended: no state names it.
            encoder: of the passages that are added; where the base is of one of its `others`, that one.
            base: the directory to succeed.

        Raises:
            FileNotFoundError: there is nothing at `base`.
            CorpusError: `base` is damaged or of another encoder.
            FileExistsError: `directory` is finished.
        """
        if (directory / INDEX).exists():
            raise FileExistsError(directory)
        self._base: list[Shard] = []
        if base is not None:
            vectors = Vectors(base)
            encoder = vectors.require(encoder)
            self._base = vectors.shards
        self._directory, self.encoder = directory, encoder
        directory.mkdir(exist_ok=True)
        self._maker = VectorMaker(encoder, [*self._base, *_left_by_another(directory, encoder)])
        self._live = [shard.live_places() for shard in self._base]
        self._parts: list[_Some] = []
        self._pending: list[Entries] = []

    @property
    def encoded(self) -> int:
        """Passages whose vector had to be made."""
        return self._maker.encoded

    def add(self, passages: Iterable[tuple[int, str, str]]) -> None:
        """Add (row, title, text).

        Raises:
            CorpusError: the encoder gives no vectors, or a vector to be used again is damaged.
            WriteError, OSError: the files can't be written.
        """
        stream = iter(passages)
        while batch := list(islice(stream, _BATCH)):
            for made in self._maker.entries(batch):
                self.take(made)

    def take(self, made: Entries) -> None:
        """Add passages whose vectors are there already.

        Raises:
            WriteError, OSError: the files can't be written.
        """
        self._pending.append(made)
        if sum(map(len, self._pending)) >= _PART_ROWS:
            self._write_part()

    def remove(self, rows: Iterable[int] | NDArray[np.int64]) -> None:
        """Remove passages by row, whenever they were added; rows that aren't there don't matter."""
        gone = rows if isinstance(rows, np.ndarray) else np.fromiter(rows, np.int64)
        for at, shard in enumerate(self._base):
            self._live[at] = _without(shard.entries, self._live[at], gone)
        self._parts = [(shard, _without(shard.entries, places, gone)) for shard, places in self._parts]
        self._pending = [some.take(_without(some, np.arange(len(some)), gone)) for some in self._pending]

    def finish(self) -> None:
        """Write out, put small shards together, and force all to the disk.

        Raises:
            CorpusError: a vector that has to be written again is damaged.
            WriteError, OSError: the files can't be written.
        """
        kept, pool = self._kept_and_pool()
        shards = [self._linked(shard, places) for shard, places in kept]
        shards += [write_shard(self._directory, self.encoder.fingerprint, some) for some in _packed(pool)]
        write_index(self._directory, self.encoder, shards)
        names = {INDEX, *(shard.path.name for shard in shards)}
        for entry in self._directory.iterdir():
            if entry.name not in names:
                remove(entry)
        sync_directory(self._directory)

    def _write_part(self) -> None:
        shard = write_shard(self._directory, self.encoder.fingerprint, joined(self._pending))
        self._parts.append((shard, np.arange(len(shard.entries))))
        self._pending = []

    def _kept_and_pool(self) -> tuple[list[_Some], list[_Some]]:
        """Shards of the base that stay as they are, and everything that is written anew."""
        pool = [*self._parts]
        if self._pending:
            pending = joined(self._pending)
            pool.append((Shard(self._directory, self.encoder.fingerprint, pending), np.arange(len(pending))))
        kept: list[_Some] = []
        for shard, places in zip(self._base, self._live, strict=True):
            fits = len(places) >= (1 - _PATCHED_SHARE) * len(shard.entries)
            (kept if fits else pool).append((shard, places))
        # Small shards join what is new until each is larger than all the smaller ones together: a passage is
        # written again at most about log2 (shard / change) times, and there are few shards.
        kept.sort(key=lambda one: -len(one[1]))
        while pool and kept and len(kept[-1][1]) <= min(_count(pool), _SHARD_ROWS // 2):
            pool.append(kept.pop())
        return kept, [(shard, places) for shard, places in pool if len(places)]

    def _linked(self, shard: Shard, places: NDArray[np.int64]) -> Shard:
        target = self._directory / shard.path.name
        remove(target)  # one that another build left, or of the same content
        try:
            os.link(shard.path, target)
        except OSError:  # a file system without hard links
            shutil.copyfile(shard.path, target)
        live = None
        if len(places) < len(shard.entries):
            live = np.zeros(len(shard.entries), bool)
            live[places] = True
        return replace(shard, path=target, live=live)


class VectorMaker:
    """Vectors of passages: those that shards have, by content, and the others encoded, each content once.

    Attributes:
        encoded: passages whose vector had to be made.
    """

    def __init__(self, encoder: VectorEncoder, shards: Sequence[Shard]) -> None:
        self._encoder, self._known = encoder, _Known(shards)
        self.encoded = 0

    def entries(self, batch: Sequence[tuple[int, str, str]]) -> list[Entries]:
        """Vectors of (row, title, text), in no order.

        Raises:
            CorpusError: the encoder gives no vectors, or a vector to be used again is damaged.
        """
        passages = [Passage("", title, text) for _, title, text in batch]
        keys = [passage_key(passage) for passage in passages]
        rows = np.array([row for row, _, _ in batch], np.int64)
        known, missing = self._known.find(keys)
        found = [some.of_rows(rows[at]) for some, at in known]
        places: dict[bytes, int] = {}
        for at in missing:
            places.setdefault(keys[at], at)
        if places:
            new = [passages[at] for at in places.values()]
            made = entries(range(len(new)), list(places), self._encoder.of_passages(new))
            number = {key: n for n, key in enumerate(places)}
            made = made.take(np.array([number[keys[at]] for at in missing]))
            found.append(made.of_rows(rows[missing]))
            self.encoded += len(new)
        return found


class _Known:
    """Where the vector of a title and text is, by its key."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._starts = np.cumsum([0, *(len(shard.entries) for shard in shards)])
        keys = [np.ascontiguousarray(shard.entries.keys).view("<u8") for shard in shards]
        self._keys = np.concatenate(keys) if keys else np.zeros((0, 2), np.uint64)
        self._order = np.argsort(self._keys[:, 0], kind="stable")
        self._first = self._keys[self._order, 0]

    def find(self, keys: Sequence[bytes]) -> tuple[list[tuple[Entries, NDArray[np.int64]]], list[int]]:
        """Entries with the places in `keys` that they are for, and the places of keys without any."""
        wanted = np.frombuffer(b"".join(keys), "<u8").reshape(-1, 2)
        missing = np.ones(len(wanted), bool)
        found = []
        if len(self._keys):
            at = np.minimum(np.searchsorted(self._first, wanted[:, 0]), len(self._first) - 1)
            places = self._order[at]
            # Two keys with the same first half would only be encoded again.
            missing = (self._keys[places] != wanted).any(1)
            for shard, start, end in zip(self._shards, self._starts, self._starts[1:], strict=False):
                here = np.flatnonzero(~missing & (places >= start) & (places < end))
                if len(here):
                    found.append((_checked(shard, places[here] - start), here))
        return found, np.flatnonzero(missing).tolist()


def _left_by_another(directory: Path, encoder: VectorEncoder) -> Iterator[Shard]:
    """Whole shards of the same encoder in an unfinished directory; what else is there is of no use."""
    for path in sorted(directory.iterdir()):
        if is_shard_name(path.name):
            try:
                shard = open_shard(path)
                shard.require(shard.live_places())
            except (CorpusError, OSError):
                continue
            if shard.fingerprint == encoder.fingerprint:
                yield shard


def _checked(shard: Shard, places: NDArray[np.int64]) -> Entries:
    shard.require(places)
    return shard.entries.take(places)


def _without(content: Entries, places: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places whose passages are not among these rows."""
    return places[~np.isin(content.rows[places], rows)]


def _count(pool: Iterable[_Some]) -> int:
    return sum(len(places) for _, places in pool)


def _packed(pool: Sequence[_Some]) -> Iterator[Entries]:
    """All of it in the order of rows, in pieces of a shard's size: no more is in memory at once."""
    rows = [shard.entries.rows[places] for shard, places in pool]
    ordered = np.sort(np.concatenate([np.zeros(0, np.int64), *rows]))
    for at in range(0, len(ordered), _SHARD_ROWS):
        first, last = ordered[at], ordered[at : at + _SHARD_ROWS][-1]
        inside = [(of_shard >= first) & (of_shard <= last) for of_shard in rows]
        yield joined(
            [
                _checked(shard, places[here])
                for (shard, places), here in zip(pool, inside, strict=True)
                if here.any()
            ]
        )
