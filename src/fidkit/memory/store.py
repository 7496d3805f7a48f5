"""The memory of a corpus, opened for reading. No model code here.

A fetch has two steps. `find` asks the manifest, once, where all rows are: how long they are and which
are missing is known at once, so whoever asks can make room for them. `fetch` then reads the rows in
background threads, each to its final place in one buffer, while the question is encoded.

What is fetched is what the key says, or nothing: every row's checksum is compared, and a row that can't
be read is reported as lost, to be encoded afresh.

Letters: X tokens of all rows, C columns of a record, D width.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from fidkit import arrays
from fidkit.arrays import Array
from fidkit.errors import ForeignMemoryError, MemoryStoreError
from fidkit.memory.check import Damage, find_damage
from fidkit.memory.codecs import Codec, make_codec, record_bytes
from fidkit.memory.fetch import Fetch, Fetched
from fidkit.memory.layout import memory_directory
from fidkit.memory.manifest import Manifest, MemoryMeta, Place
from fidkit.memory.storage import Storage, open_storage

if TYPE_CHECKING:
    import torch

# Of one `find`; where it would be more, the shards are asked first whether they have as much.
_MUCH_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class MemoryInfo:
    """What a memory holds.

    Attributes:
        path: of the corpus.
        reader, fingerprint: what it was built with.
        codec: name.
        precision: what memory was computed in.
        width, memory_layers: of the vectors, and how many layers are precomputed.
        shards, rows, tokens: stored and live; equal passages share a row.
        bytes: of all shards.
        dead_bytes: of rows that were removed, until they are compacted away.
        shards_at: where shards lie; empty for the memory's own folder.
        format_version, generation: the generation grows with every change.
    """

    path: str
    reader: str
    fingerprint: str
    codec: str
    precision: str
    width: int
    memory_layers: int
    shards: int
    rows: int
    tokens: int
    bytes: int
    dead_bytes: int
    shards_at: str
    format_version: int
    generation: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Located:
    """Where the rows of some keys are.

    Attributes:
        keys: as asked for.
        places: of each; None for those that are not stored.
    """

    keys: Sequence[bytes]
    places: Sequence[Place | None]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row; 0 for a missing one."""
        return [place.tokens if place else 0 for place in self.places]

    @property
    def missing(self) -> list[int]:
        """Which of the keys are not stored."""
        return [at for at, place in enumerate(self.places) if place is None]

    @property
    def bytes(self) -> int:
        """To be read."""
        return sum(place.size for place in self.places if place)


class MemoryStore:
    """A memory opened for reading; safe to use from several threads, not across a fork.

    Attributes:
        directory: of the corpus.
        codec: of the records.
    """

    def __init__(self, directory: Path, manifest: Manifest, threads: int | None) -> None:
        """See `open`."""
        self.directory = directory
        self._manifest = manifest
        meta = manifest.meta()
        if meta is None:
            raise MemoryStoreError(
                f"{directory}: its memory was never begun; run `fidkit memory build {directory} "
                "--reader READER`"
            )
        self._meta = meta
        self.codec: Codec = _codec_of(meta, directory)
        self._storage: Storage = open_storage(meta.shards_at, manifest.directory)
        self._threads = threads or self._storage.threads
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="fidkit-memory")
        self._lock = threading.Lock()
        self._generation = meta.generation
        self._warned: set[str] = set()

    @classmethod
    def open(
        cls,
        directory: str | Path,
        fingerprint: str | None = None,
        *,
        reader: str = "READER",
        threads: int | None = None,
    ) -> MemoryStore:
        """Open the memory of a corpus.

        Args:
            directory: of the corpus.
            fingerprint: of the reader that will use it; None takes a memory of any.
            reader: what that reader is called, for the message.
            threads: that read at the same time; by default as many as pay for where the shards lie.

        Raises:
            ForeignMemoryError: it is another reader's.
            MemoryStoreError: no memory, one of a newer format, or damaged.
        """
        directory = Path(directory)
        manifest = Manifest.for_reading(memory_directory(directory))
        try:
            store = cls(directory, manifest, threads)
            if fingerprint is not None:
                store._require(fingerprint, reader)
        except BaseException:
            manifest.close()
            raise
        return store

    @property
    def fingerprint(self) -> str:
        return self._meta.fingerprint

    @property
    def reader(self) -> str:
        """Name or path of the reader that it was built with."""
        return self._meta.reader

    @property
    def info(self) -> MemoryInfo:
        """What is there now."""
        meta, shards = self._manifest.meta() or self._meta, self._manifest.shards()
        return MemoryInfo(
            str(self.directory),
            meta.reader,
            meta.fingerprint,
            meta.codec,
            meta.precision,
            meta.width,
            meta.memory_layers,
            len(shards),
            sum(shard.live_rows for shard in shards),
            sum(shard.live_tokens for shard in shards),
            sum(shard.bytes for shard in shards),
            sum((shard.tokens - shard.live_tokens) * shard.record_bytes for shard in shards),
            meta.shards_at,
            meta.format_version,
            meta.generation,
        )

    def find(self, keys: Sequence[bytes]) -> Located:
        """Where the rows of these keys are (`fidkit.passages.token_cache.passage_key`), all of one moment.

        Raises:
            ForeignMemoryError: the memory was built for another reader or codec since it was opened.
            MemoryStoreError: its manifest says what can't be.
        """
        meta, places = self._manifest.places(keys)
        if meta is None or not meta.same_rows(self._meta):
            raise ForeignMemoryError(
                f"{self.directory}: its memory was built anew with another reader or codec since it was "
                "opened; open it again"
            )
        self._notice(meta)
        self._require_possible(places)
        return Located(keys, [places.get(key) for key in keys])

    def fetch(
        self,
        located: Located,
        dtype: torch.dtype | Literal["float32"] | None = None,
        *,
        pin: bool = False,
    ) -> Future[Fetched]:
        """Read the rows that were found, in the background.

        Args:
            located: from `find`.
            dtype: of the memory's tensors; the word `float32` asks for a NumPy array; None leaves the
                records as they are stored, for `codec.decode` on
                another device.
            pin: into page-locked memory, from which a GPU copies faster; only where CUDA is.
        """
        fetch = Fetch(self._storage, self.codec, located.places, dtype, pin=pin)
        fetch.again = lambda at: self.find([located.keys[at]]).places[0]
        fetch.complain = self._complain
        return fetch.start(self._submit, self._threads)

    def get(
        self, keys: Sequence[bytes], dtype: torch.dtype | Literal["float32"] | None = None
    ) -> tuple[Array, list[int]]:
        """`find` and `fetch` in one: the memory [X, D], and tokens of each row (0 for missing ones)."""
        located = self.find(keys)
        fetched = self.fetch(located, dtype).result()
        lengths = located.lengths
        if fetched.lost:
            found = [at for at, length in enumerate(lengths) if length]
            parts = arrays.split(fetched.memory_XD, [lengths[at] for at in found])
            lengths = [0 if at in fetched.lost else length for at, length in enumerate(lengths)]
            kept = [part for at, part in zip(found, parts, strict=True) if lengths[at]]
            return arrays.concatenate([fetched.memory_XD[:0], *kept]), lengths
        return fetched.memory_XD, lengths

    def check(self, progress: Callable[[int, int], None] | None = None) -> list[Damage]:
        """Read everything and compare every checksum.

        Args:
            progress: called with shards done and shards in all.

        Returns:
            Shards that are not what they were, and why.
        """
        return find_damage(self._manifest, self._storage, progress)

    def close(self) -> None:
        """Wait for running fetches and let go of everything. Further use raises MemoryStoreError."""
        self._pool.shutdown()
        self._manifest.close()
        self._storage.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require(self, fingerprint: str, reader: str) -> None:
        meta = self._meta
        if meta.fingerprint != fingerprint:
            raise ForeignMemoryError(
                f"{self.directory}: its memory was built by {meta.reader} (fingerprint {meta.fingerprint}), "
                f"but {reader} has fingerprint {fingerprint}; run `fidkit memory build {self.directory} "
                f"--reader {reader} --replace` to build it again, or read with {meta.reader}"
            )

    def _require_possible(self, places: Mapping[bytes, Place]) -> None:
        """Refuse rows that are no rows of this codec, or that nobody could have stored."""
        one = record_bytes(self.codec)
        is_possible = all(place.tokens and place.size == place.tokens * one for place in places.values())
        if is_possible and sum(place.size for place in places.values()) > _MUCH_BYTES:
            is_possible = all(self._fits(place) for place in places.values())
        if not is_possible:
            raise MemoryStoreError(
                f"{self.directory}: its manifest knows rows that can't be in its shards; delete "
                f"{memory_directory(self.directory)} and build the memory again"
            )

    def _fits(self, place: Place) -> bool:
        try:
            return place.offset + place.size <= self._storage.size(place.shard)
        except OSError:
            return False

    def _submit(self, work: Callable[[], None]) -> None:
        try:
            self._pool.submit(work)
        except RuntimeError as error:
            raise MemoryStoreError(f"{self.directory}: this memory was closed; open it again") from error

    def _notice(self, meta: MemoryMeta) -> None:
        """After a change, let go of shards that are no longer there, so that their space is given back."""
        with self._lock:
            changed, self._generation = meta.generation != self._generation, meta.generation
        if changed:
            self._storage.forget(keep={shard.name for shard in self._manifest.shards()})

    def _complain(self, shard: str, reason: str) -> None:
        with self._lock:
            first = shard not in self._warned
            self._warned.add(shard)
        if first:
            warnings.warn(
                f"{self.directory}: rows of {shard} can't be read ({reason}) and are encoded afresh; run "
                f"`fidkit memory check {self.directory} --repair`",
                RuntimeWarning,
                stacklevel=2,
            )


def _codec_of(meta: MemoryMeta, directory: Path) -> Codec:
    codec = make_codec(meta.codec, meta.width, memory_directory(directory))
    if codec.fingerprint != meta.codebooks:
        raise MemoryStoreError(
            f"{directory}: its rows were written with the codebooks {meta.codebooks}, but those that are "
            f"there have fingerprint {codec.fingerprint}; run `fidkit memory build {directory} --reader "
            f"{meta.reader} --codec {meta.codec}` to build it again"
        )
    return codec
