"""Whether a memory is what it was when it was written."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fidkit.errors import MemoryStoreError
from fidkit.memory.index import DamagedShard, Index
from fidkit.memory.manifest import Manifest, ShardRecord
from fidkit.memory.shard import verify
from fidkit.memory.storage import Storage

ShardsDone = Callable[[int, int], None]
"""Told how many shards are done, of how many."""

_GONE = "there is no such file"


class Damage(NamedTuple):
    """A shard that is not what it was, and in what respect."""

    shard: str
    reason: str


def find_damage(manifest: Manifest, storage: Storage, progress: ShardsDone | None = None) -> list[Damage]:
    """Read all shards and compare every checksum, and the manifest with them.

    Args:
        manifest: says what should be there.
        storage: where it should be.
        progress: called with shards done and shards in all.

    Raises:
        MemoryStoreError: the shards can't be reached; whether they are damaged is not known.
    """
    damaged, shards = [], manifest.shards()
    for done, shard in enumerate(shards):
        if progress:
            progress(done, len(shards))
        reason = _damage(manifest, storage, shard)
        # What was compacted away meanwhile is no damage.
        if reason and any(now.name == shard.name for now in manifest.shards()):
            damaged.append(Damage(shard.name, reason))
    if progress:
        progress(len(shards), len(shards))
    gone = sum(shard.reason == _GONE for shard in damaged)
    if storage.where and gone and gone == len(shards):
        raise MemoryStoreError(
            f"{manifest.directory.parent}: none of the {gone} shards of its memory is at {storage.where}; "
            f"mount or mend that place, or delete {manifest.directory} and build the memory anew"
        )
    return damaged


def _damage(manifest: Manifest, storage: Storage, shard: ShardRecord) -> str:
    try:
        return disagreement(verify(storage, shard.name), shard, manifest)
    except (DamagedShard, MemoryStoreError) as error:
        return str(error)
    except FileNotFoundError:
        return _GONE
    except (ConnectionError, PermissionError) as error:
        raise MemoryStoreError(
            f"{manifest.directory.parent}: {shard.name} can't be reached ({error}), so nobody knows if "
            "it is damaged; mend the connection or the permissions and check again"
        ) from error
    except OSError as error:
        return f"it can't be read: {error}"


def disagreement(index: Index, shard: ShardRecord, manifest: Manifest) -> str:
    """What the manifest says otherwise of a shard's rows than the shard itself; empty if nothing."""
    live = manifest.rows_of(index)
    rows = zip(index.starts.tolist(), index.lengths.tolist(), index.checks.tolist(), strict=True)
    there = {
        key: (index.offset + start * index.record_bytes, tokens, crc)
        for key, (start, tokens, crc) in zip(index.key_list(), rows, strict=True)
    }
    wrong = sum(there[key] != (place.offset, place.tokens, place.crc) for key, place in live.items())
    if wrong or len(live) != shard.live_rows:
        return "its rows are not those that the manifest knows"
    return ""
