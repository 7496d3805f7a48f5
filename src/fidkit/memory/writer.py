"""The memory of a corpus, opened for changing: by one process at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fidkit.errors import MemoryStoreError
from fidkit.memory.check import Damage, ShardsDone, find_damage
from fidkit.memory.codecs import Codec, make_codec
from fidkit.memory.compact import Compaction, copy_live, mostly_dead
from fidkit.memory.index import DamagedShard, Index
from fidkit.memory.layout import PART, SHARD, explained_disk, memory_directory, writer_lock
from fidkit.memory.manifest import Manifest, MemoryMeta, ShardRecord
from fidkit.memory.shard import read_index
from fidkit.memory.storage import open_storage
from fidkit.paths import remove

SHARD_BYTES = 1 << 30


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
            meta: what all rows have in common; None takes what is there, and trusts what it says of where
                shards lie.
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
                writer = cls(directory, manifest, _agree(corpus, manifest, meta, replace))
                try:
                    yield writer
                finally:
                    writer._storage.forget()
            finally:
                manifest.close()

    def begin(self, meta: MemoryMeta) -> None:
        """Forget everything that is there, and say what rows will have in common from now on.

        Raises:
            MemoryStoreError: the disk is full.
        """
        _begin(self.manifest, meta)
        self.meta = meta
        self._storage.forget()
        self._storage = open_storage(meta.shards_at, self.directory)

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
            index = read_index(path, check=check)
        except (DamagedShard, FileNotFoundError) as damage:
            raise MemoryStoreError(
                f"{path}: this shard can't be used ({damage}); delete it and run the build again"
            ) from damage
        if (index.fingerprint, index.codec, index.codebooks) != self._kind():
            raise MemoryStoreError(
                f"{path}: expected a shard of fingerprint {self.meta.fingerprint} in {self.meta.codec}, got "
                f"{index.fingerprint} in {index.codec}; delete it and run the build again"
            )
        self._publish(path, index)
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
        known = {shard.name for shard in self.shards()}
        loose = [name for name in self.manifest.loose() if name not in known]
        self._delete(loose)
        here = set() if self.meta.shards_at else known
        swept = loose
        for entry in sorted(self.directory.iterdir()):
            ours = entry.name.startswith(SHARD) or entry.name.endswith(PART)
            if ours and entry.name not in here and entry.name not in keep:
                remove(entry)
                swept.append(entry.name)
        return swept

    def compact(self, shard_bytes: int = SHARD_BYTES, progress: ShardsDone | None = None) -> Compaction:
        """Give back the space of removed rows: copy what is live in shards that are mostly dead.

        Nothing is encoded. Each new shard is a transaction of its own, after which the old files are deleted.

        Args:
            shard_bytes: about the size of a new shard.
            progress: called with shards done and shards to do.

        Raises:
            MemoryStoreError: a row that is live is damaged, or the disk is full; what was done so far stands.
        """
        groups = mostly_dead(self.shards(), shard_bytes)
        if not groups:
            return Compaction(0, 0, 0)
        codec = make_codec(self.meta.codec, self.meta.width, self.directory)
        done, written, freed = 0, 0, 0
        for shards in groups:
            if progress:
                progress(done, sum(map(len, groups)))
            names = [shard.name for shard in shards]
            path = copy_live(
                self.directory, self.manifest, self._storage, codec, self.meta.fingerprint, shards
            )
            index = read_index(path) if path else None
            self._publish(path, index, names)
            done += len(shards)
            written += index is not None
            freed += sum(shard.bytes for shard in shards) - (index.size if index else 0)
        if progress:
            progress(done, done)
        return Compaction(done, written, freed)

    def repair(self, progress: ShardsDone | None = None) -> list[Damage]:
        """Find damaged shards and forget them, so that the next build makes their rows again.

        Args:
            progress: called with shards done and shards in all.
        """
        damaged = find_damage(self.manifest, self._storage, progress)
        # First the files: a build that is ended in between must not take one for finished.
        self._delete([shard.shard for shard in damaged])
        with explained_disk(self.directory):
            self.manifest.forget([shard.shard for shard in damaged])
        return damaged

    def _publish(self, path: Path | None, index: Index | None, instead_of: Sequence[str] = ()) -> None:
        """Bring a finished shard to where it will lie, name it, and delete those that it replaces."""
        with explained_disk(self.directory, index.size if index else 0):
            if path and index and self.meta.shards_at:
                self.manifest.loosen([index.name])
                self._storage.put(index.name, path)
            self.manifest.add(index, instead_of)
            # A new shard may have the name of one whose rows were all removed.
            self._delete([name for name in instead_of if not index or name != index.name])
        if path and self.meta.shards_at:
            path.unlink(missing_ok=True)

    def _delete(self, names: Sequence[str]) -> None:
        for name in names:
            self._storage.delete(name)
        self.manifest.deleted(names)

    def _kind(self) -> tuple[str, str, str]:
        return self.meta.fingerprint, self.meta.codec, self.meta.codebooks


def memory_meta(
    fingerprint: str,
    reader: str,
    codec: Codec,
    memory_layers: int,
    shards_at: str = "",
    precision: str = "float32",
) -> MemoryMeta:
    """What the rows of a memory that this reader builds with this codec have in common."""
    return MemoryMeta(
        fingerprint,
        reader,
        codec.name,
        codec.fingerprint,
        precision,
        codec.width,
        memory_layers,
        shards_at,
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
            f"build {corpus} --reader {meta.reader} --codec {meta.codec} --precision "
            f"{meta.precision} --replace` to build it again"
        )
    _begin(manifest, meta)
    return meta


def _begin(manifest: Manifest, meta: MemoryMeta) -> None:
    there, shards = manifest.meta(), manifest.shards()
    open_storage(meta.shards_at, manifest.directory)  # a place that can't be is said first
    with explained_disk(manifest.directory):
        manifest.begin(meta)
        if there:
            storage = open_storage(there.shards_at, manifest.directory)
            for shard in shards:
                storage.delete(shard.name)
        manifest.deleted([shard.name for shard in shards])


def _say(meta: MemoryMeta) -> str:
    codebooks = f", codebooks {meta.codebooks}" if meta.codebooks else ""
    return f"{meta.reader} in {meta.codec} from {meta.precision} (fingerprint {meta.fingerprint}{codebooks})"
