"""The memory of a corpus, opened for changing: by one process at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fidkit.errors import MemoryStoreError
from fidkit.memory.check import Damage, find_damage
from fidkit.memory.codecs import Codec
from fidkit.memory.layout import PART, SHARD, explained_disk, memory_directory, writer_lock
from fidkit.memory.manifest import Manifest, MemoryMeta, ShardRecord
from fidkit.memory.shard import DamagedShard, Index, read_index, verify
from fidkit.memory.storage import Folder, open_storage


class MemoryWriter:
    """Changes a memory; every method is one transaction, whole or not at all.

    Attributes:
        directory: of the memory: shards are written here first, wherever they lie in the end.
        meta: what all rows have in common.
    """

    def __init__(self, directory: Path, manifest: Manifest, meta: MemoryMeta) -> None:
        """See `opened`."""
        self.directory, self.meta, self.manifest = directory, meta, manifest
        self._storage = open_storage(meta.shards_at, directory)

    @classmethod
    @contextmanager
    def opened(
        cls, corpus: Path, meta: MemoryMeta | None = None, *, replace: bool = False
    ) -> Iterator[MemoryWriter]:
        """Hold the memory of a corpus directory for writing.

        Args:
            corpus: its directory.
            meta: what all rows have in common; None takes what is there.
            replace: forget a memory of another reader or codec.

        Raises:
            MemoryStoreError: somebody else is writing, the memory belongs to another reader or codec and
                is not to be replaced, it is of a newer format, there is none (`meta` None), or the disk
                is full.
        """
        directory = memory_directory(corpus)
        if meta is None:
            Manifest.for_reading(directory).close()
        with writer_lock(directory):
            with explained_disk(directory):
                manifest = Manifest.for_writing(directory)
            try:
                meta = _agree(corpus, manifest, meta, replace)
                yield cls(directory, manifest, meta)
            finally:
                manifest.close()

    def missing(self, keys: Iterable[bytes]) -> Iterator[bytes]:
        """Those of the keys that are not stored, in their order."""
        return self.manifest.missing(keys)

    def shards(self) -> list[ShardRecord]:
        """All shards, in the order of their commit."""
        return self.manifest.shards()

    def commit(self, path: Path, *, check: bool = False) -> Index:
        """Make the rows of a finished shard visible to readers, at once.

        Rows that are stored already stay where they are. A shard whose rows were removed has them back.

        Args:
            path: of a shard in `directory`, from `ShardWriter`.
            check: compare every checksum first; for a file that was found rather than just written.

        Raises:
            MemoryStoreError: the shard is damaged or of another reader or codec, or the disk is full.
        """
        try:
            index = verify(Folder(path.parent), path.name) if check else read_index(path)
        except (DamagedShard, FileNotFoundError) as damage:
            raise MemoryStoreError(
                f"{path}: this shard can't be used ({damage}); delete it and run the build again"
            ) from damage
        if (index.fingerprint, index.codec, index.codebooks) != self._kind():
            raise MemoryStoreError(
                f"{path}: expected a shard of fingerprint {self.meta.fingerprint} in {self.meta.codec}, got "
                f"{index.fingerprint} in {index.codec}; delete it and run the build again"
            )
        with explained_disk(self.directory, index.size):
            self._storage.put(index.name, path)
            self.manifest.add([index])
        if self.meta.shards_at:
            path.unlink(missing_ok=True)
        return index

    def remove(self, keys: Iterable[bytes]) -> int:
        """Remove rows; how many of them there were. Their bytes stay until `compact`."""
        with explained_disk(self.directory):
            return self.manifest.remove(keys)

    def keep_only(self, keys: Iterable[bytes]) -> int:
        """Remove all rows but these; how many were removed."""
        with explained_disk(self.directory):
            return self.manifest.keep_only(keys)

    def sweep(self, keep: Collection[str] = ()) -> list[str]:
        """Delete what the manifest doesn't name: shards that were never committed, and parts of files.

        Args:
            keep: names of shards that are about to be committed.

        Returns:
            Names of the shards and parts that were deleted.
        """
        known = {*keep, *(shard.name for shard in self.shards())}
        swept = [name for name in self._storage.list() if name not in known]
        for name in swept:
            self._storage.delete(name)
        for entry in sorted(self.directory.glob(SHARD + "*")):
            staged = bool(self.meta.shards_at) and entry.name not in keep
            if entry.name.endswith(PART) or staged:
                entry.unlink(missing_ok=True)
                swept.append(entry.name)
        return swept

    def repair(self, progress: Callable[[int, int], None] | None = None) -> list[Damage]:
        """Find damaged shards and forget them, so that the next build makes their rows again.

        Args:
            progress: called with shards done and shards in all.
        """
        damaged = find_damage(self.manifest, self._storage, progress)
        for shard in damaged:
            # First the file: a build that is ended in between must not take it for a finished one.
            self._storage.delete(shard.shard)
        with explained_disk(self.directory):
            self.manifest.forget([shard.shard for shard in damaged])
        return damaged

    def _kind(self) -> tuple[str, str, str]:
        return self.meta.fingerprint, self.meta.codec, self.meta.codebooks


def memory_meta(
    fingerprint: str, reader: str, codec: Codec, memory_layers: int, shards_at: str = ""
) -> MemoryMeta:
    """What the rows of a memory that this reader builds with this codec have in common."""
    return MemoryMeta(
        fingerprint, reader, codec.name, codec.fingerprint, codec.width, memory_layers, shards_at
    )


def _agree(corpus: Path, manifest: Manifest, meta: MemoryMeta | None, replace: bool) -> MemoryMeta:
    there = manifest.meta()
    if meta is None:
        if there is None:
            raise MemoryStoreError(
                f"{corpus}: its memory was never begun; run `fidkit memory build {corpus} --reader READER`"
            )
        return there
    if there and there.same_rows(meta):
        if meta.shards_at not in ("", there.shards_at):
            raise MemoryStoreError(
                f"{corpus}: the shards of its memory lie at {there.shards_at or manifest.directory}, not at "
                f"{meta.shards_at}; leave the place out, or delete {manifest.directory} and build it again"
            )
        return there
    if there and not replace:
        raise MemoryStoreError(
            f"{corpus}: its memory was built by {_say(there)}, but this is {_say(meta)}; run `fidkit memory "
            f"build {corpus} --reader {meta.reader} --codec {meta.codec} --replace` to build it again"
        )
    _begin(manifest, meta, there)
    return meta


def _begin(manifest: Manifest, meta: MemoryMeta, there: MemoryMeta | None) -> None:
    old = manifest.shards()
    with explained_disk(manifest.directory):
        manifest.begin(meta)
        storage = open_storage(there.shards_at, manifest.directory) if there else None
        for shard in old:
            if storage:
                storage.delete(shard.name)


def _say(meta: MemoryMeta) -> str:
    codebooks = f", codebooks {meta.codebooks}" if meta.codebooks else ""
    return f"{meta.reader} in {meta.codec} (fingerprint {meta.fingerprint}{codebooks})"
