"""Compaction: the live rows of shards that are mostly dead are copied, as they are, into new shards."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fidkit.errors import MemoryStoreError
from fidkit.memory.check import disagreement
from fidkit.memory.codecs import Codec
from fidkit.memory.index import DamagedShard
from fidkit.memory.manifest import Manifest, Place, ShardRecord
from fidkit.memory.shard import ShardWriter, load_index, read_into
from fidkit.memory.storage import Storage


class Compaction(NamedTuple):
    """What a compaction did."""

    shards_deleted: int
    shards_written: int
    bytes_freed: int


def mostly_dead(shards: Sequence[ShardRecord], shard_bytes: int) -> list[list[ShardRecord]]:
    """Shards of which less than half is live, in groups whose live rows make one new shard each.

    Args:
        shards: all.
        shard_bytes: the most that a group has; a shard alone may have more.
    """
    groups: list[list[ShardRecord]] = []
    size = 0
    for shard in shards:
        if 2 * shard.live_tokens >= shard.tokens:
            continue
        live = shard.live_tokens * shard.record_bytes
        if not groups or size + live > shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(shard)
        size += live
    return groups


def copy_live(
    directory: Path,
    manifest: Manifest,
    storage: Storage,
    codec: Codec,
    fingerprint: str,
    shards: Sequence[ShardRecord],
) -> Path | None:
    """Write the live rows of some shards into a new one; its path, or None if nothing is live.

    Raises:
        MemoryStoreError: a shard is damaged, or the disk is full.
    """
    places: dict[bytes, Place] = {}
    try:
        for shard in shards:
            if shard.live_rows:
                index = load_index(storage, shard.name)
                if wrong := disagreement(index, shard, manifest):
                    raise DamagedShard(wrong)
                # In the order in which they stand there.
                places |= sorted(manifest.rows_of(index).items(), key=lambda row: row[1].offset)
        return _copy(directory, storage, codec, fingerprint, places) if places else None
    except (DamagedShard, OSError) as error:
        raise MemoryStoreError(
            f"{directory.parent}: a shard can't be compacted ({shard.name}: {error}); run "
            f"`fidkit memory check {directory.parent} --repair` and build again"
        ) from error


def _copy(
    directory: Path, storage: Storage, codec: Codec, fingerprint: str, places: dict[bytes, Place]
) -> Path:
    buffer = memoryview(bytearray(max(place.size for place in places.values())))
    lengths = [place.tokens for place in places.values()]
    with ShardWriter(directory, list(places), lengths, codec, fingerprint) as writer:
        for row, place in enumerate(places.values()):
            packed = buffer[: place.size]
            read_into(storage, place.shard, place.offset, packed)
            if zlib.crc32(packed) != place.crc:
                raise DamagedShard(f"the checksum of a row of {place.shard} is wrong")
            writer.put_bytes(row, packed)
        return writer.finish()
