"""Shards written and read; `fidkit.memory.index` says what is in one.

Rows are written at their places in any order, and one positional read fetches a row.

Letters: n rows, X tokens of all rows, C columns.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from fidkit.memory.codecs import Codec, record_bytes
from fidkit.memory.direct import DirectFile, reserve
from fidkit.memory.index import (
    DTYPES,
    HEADER_BYTES,
    INDEX_BYTES,
    KEY_BYTES,
    DamagedShard,
    Index,
    name_of,
    pack_header,
    pack_index,
    parse_header,
    parse_index,
)
from fidkit.memory.layout import PART, explained_disk, put_in_place
from fidkit.memory.storage import Folder, Storage

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "DamagedShard",
    "Index",
    "ShardWriter",
    "load_index",
    "read_index",
    "read_into",
    "shard_bytes",
    "shard_name",
    "verify",
]

_BLOCK_BYTES = 4 << 20


def shard_name(fingerprint: str, codec: Codec, keys: Sequence[bytes], lengths: Sequence[int]) -> str:
    """The file's name: the same rows of the same reader in the same codec have the same."""
    return name_of(fingerprint, codec.name, codec.fingerprint, b"".join(keys), lengths)


def shard_bytes(lengths: Sequence[int], codec: Codec) -> int:
    """Bytes of the file with rows of these lengths."""
    return HEADER_BYTES + INDEX_BYTES * len(lengths) + sum(lengths) * record_bytes(codec)


class ShardWriter:
    """Writes one shard whose rows are known and whose memory comes in any order.

    A context manager; what was not finished leaves no file behind. For one thread at a time. What goes wrong
    with a row that was put may be raised when a later one is, or by `finish`.
    """

    def __init__(
        self, directory: Path, keys: Sequence[bytes], lengths: Sequence[int], codec: Codec, fingerprint: str
    ) -> None:
        """Reserve the space.

        Args:
            directory: where the shard will be.
            keys: of the passages, 16 bytes each.
            lengths: tokens of each, at least 1.
            codec: of the records.
            fingerprint: of the reader.

        Raises:
            MemoryStoreError: the disk is full or the directory can't be written.
        """
        if not keys or len(keys) != len(lengths) or min(lengths) < 1 or len(set(keys)) != len(keys):
            raise ValueError("a shard needs different keys, as many lengths, and lengths of at least 1")
        self.index = Index(
            shard_name(fingerprint, codec, keys, lengths),
            fingerprint,
            codec.name,
            codec.fingerprint,
            codec.columns,
            DTYPES[codec.kind],
            np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES),
            np.asarray(lengths, np.int32),
            np.full(len(keys), -1, np.int64),
        )
        self._starts = self.index.starts
        self._directory = directory
        with explained_disk(directory, self.index.size):
            directory.mkdir(parents=True, exist_ok=True)
            descriptor, part = tempfile.mkstemp(prefix=self.index.name, suffix=PART, dir=directory)
            self._part = Path(part)
            try:
                # Better to know now that the disk is too small than after hours of encoding.
                reserve(descriptor, self.index.size)
                self._file = DirectFile(descriptor)
            except BaseException:
                os.close(descriptor)
                self._part.unlink(missing_ok=True)
                raise

    def put(self, first: int, records_XC: Tensor) -> None:
        """Write the records of a row, or of rows that follow one another.

        Args:
            first: the first of these rows.
            records_XC: of all of them.

        Raises:
            MemoryStoreError: the file can't be written.
        """
        ends = self._starts[first:] + self.index.lengths[first:] - self._starts[first]
        rows = int(np.searchsorted(ends, len(records_XC))) + 1
        expected = (int(ends[rows - 1]) if rows <= len(ends) else int(ends[-1]), self.index.columns)
        kind = DTYPES.get(str(records_XC.dtype).removeprefix("torch."))
        if tuple(records_XC.shape) != expected or kind != self.index.dtype:
            raise ValueError(
                f"row {first}: expected {expected} of {self.index.dtype}, got {tuple(records_XC.shape)} of "
                f"{records_XC.dtype}"
            )
        import torch

        packed = records_XC.cpu().contiguous().view(torch.uint8).numpy().data.cast("B")
        self._write(packed, self._offset(first))
        edges = [0, *(ends[:rows] * self.index.record_bytes).tolist()]
        checks = [zlib.crc32(packed[begin:end]) for begin, end in pairwise(edges)]
        self.index.checks[first : first + rows] = checks

    def put_bytes(self, row: int, packed: memoryview) -> None:
        """Write a row as it stands in another shard.

        Raises:
            MemoryStoreError: the file can't be written.
        """
        self._write(packed, self._offset(row))
        self.index.checks[row] = zlib.crc32(packed)

    def finish(self) -> Path:
        """Force the file to the disk and give it its name.

        Raises:
            MemoryStoreError: the file can't be written.
        """
        if (self.index.checks < 0).any():
            raise ValueError(f"{(self.index.checks < 0).sum()} rows of {self.index.name} were never put")
        self._write(memoryview(pack_header(self.index) + pack_index(self.index)), 0)
        final = self._directory / self.index.name
        with explained_disk(self._directory, self.index.size):
            # As other files here, not as secret as temporary ones.
            self._part.chmod(0o666 & ~_umask())
            self._file.sync()
            self._file.close()
            put_in_place(self._part, final)
        return final

    def _offset(self, row: int) -> int:
        return self.index.offset + int(self._starts[row]) * self.index.record_bytes

    def _write(self, packed: memoryview, offset: int) -> None:
        with explained_disk(self._directory, self.index.size):
            self._file.write(packed, offset)

    def _abandon(self) -> None:
        with suppress(OSError):  # nobody wants what is in it
            self._file.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._abandon()


def read_index(path: Path, *, check: bool = False) -> Index:
    """What is in a shard of a folder; see `load_index`, and `verify` for `check`."""
    folder = Folder(path.parent)
    try:
        return (verify if check else load_index)(folder, path.name)
    finally:
        folder.forget()


def load_index(storage: Storage, name: str) -> Index:
    """What is in a shard. Its rows are not looked at, except that they are all there.

    Raises:
        DamagedShard: it is not what was written.
        MemoryStoreError: a newer format.
        FileNotFoundError: there is none.
        OSError: it can't be read.
    """
    size = storage.size(name)
    first = _read(storage, name, 0, min(HEADER_BYTES, size))
    header = parse_header(name, first, size)
    return parse_index(name, first, header, _read(storage, name, HEADER_BYTES, INDEX_BYTES * header.rows))


def verify(storage: Storage, name: str) -> Index:
    """Read a whole shard and compare every checksum.

    Raises:
        DamagedShard: it is not what was written.
        MemoryStoreError: a newer format.
        FileNotFoundError: there is none.
        OSError: it can't be read.
    """
    index = load_index(storage, name)
    bad = sum(zlib.crc32(packed) != check for check, packed in read_rows(storage, index))
    if bad:
        raise DamagedShard(f"the checksum of {bad} of its {index.rows} rows is wrong")
    return index


def read_rows(storage: Storage, index: Index) -> Iterator[tuple[int, memoryview]]:
    """(checksum that it should have, bytes) of every row. The bytes are overwritten by later ones."""
    sizes = (index.lengths * index.record_bytes).tolist()
    buffer = memoryview(bytearray(max(_BLOCK_BYTES, *sizes)))
    row, offset = 0, index.offset
    while row < index.rows:
        # As many rows as fit: few reads, since each may be a request over a network.
        last, block = row, 0
        while last < index.rows and block + sizes[last] <= len(buffer):
            block += sizes[last]
            last += 1
        read_into(storage, index.name, offset, buffer[:block])
        at = 0
        for size, check in zip(sizes[row:last], index.checks[row:last].tolist(), strict=True):
            yield check, buffer[at : at + size]
            at += size
        row, offset = last, offset + block


def read_into(storage: Storage, name: str, offset: int, into: memoryview) -> None:
    """`Storage.read`, with a shard that ends too early as damage."""
    try:
        storage.read(name, offset, into)
    except EOFError as error:
        raise DamagedShard("is cut short") from error


def _read(storage: Storage, name: str, offset: int, size: int) -> bytes:
    buffer = bytearray(size)
    read_into(storage, name, offset, memoryview(buffer))
    return bytes(buffer)


def _umask() -> int:
    # Read from where it can be read without changing it for other threads, where there is such a place.
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Umask")).split()[1], 8)
    return 0o022
