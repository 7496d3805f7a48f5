"""A shard: the memory of some passages in one safetensors file that never changes.

    checks   I64 [n]       CRC-32 of each row's bytes
    lengths  I32 [n]       tokens of each row
    keys     U8  [n, 16]   which passage it is (`fidkit.corpus.tokens.passage_key`)
    memory   [X, C]        the records of all rows one after the other, without padding

Any library for safetensors can read it. Here it is written and read by hand: its header has a fixed size,
so a file's size follows from lengths and codec alone, rows can be written at their places in any order,
and one positional read fetches a row. Every byte is covered by a check: those of a row by its CRC, the
first three tensors by a CRC in the header, and the header by being what it has to be for its facts.

Letters: n rows, X tokens of all rows, C columns.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fidkit.errors import MemoryStoreError
from fidkit.memory.codecs import Codec, record_bytes
from fidkit.memory.layout import FORMAT_VERSION, PART, SHARD, SUFFIX, explained_disk, put_in_place
from fidkit.memory.storage import Folder, Storage

KEY_BYTES = 16

_FORMAT = "fidkit-memory"
_HEADER_BYTES = 1024
_INDEX_BYTES = 8 + 4 + KEY_BYTES  # of a row
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int8: "I8", torch.uint16: "U16"}
_SIZES = {"F32": 4, "BF16": 2, "I8": 1, "U16": 2}
_NAME_DIGITS = 32


class DamagedShard(Exception):
    """A shard that is not what it was; the text says in what respect."""


@dataclass(frozen=True, slots=True)
class Index:
    """What is in a shard, from its own beginning.

    Attributes:
        name: of the file.
        fingerprint: of the reader that made it.
        codec, codebooks: name and fingerprint of the codec.
        columns: of a record.
        dtype: of a record's columns, as safetensors calls it.
        keys: U8 [n, 16].
        lengths: [n] tokens.
        checks: [n] CRC-32.
    """

    name: str
    fingerprint: str
    codec: str
    codebooks: str
    columns: int
    dtype: str
    keys: npt.NDArray[np.uint8]
    lengths: npt.NDArray[np.int32]
    checks: npt.NDArray[np.int64]

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """[n] tokens before each row."""
        ends: npt.NDArray[np.int64] = np.cumsum(self.lengths, dtype=np.int64)
        return ends - self.lengths

    @property
    def offset(self) -> int:
        """Where the records begin in the file."""
        return _HEADER_BYTES + _INDEX_BYTES * self.rows

    @property
    def record_bytes(self) -> int:
        return self.columns * _SIZES[self.dtype]

    @property
    def size(self) -> int:
        """Of the whole file."""
        return self.offset + self.tokens * self.record_bytes

    def key_list(self) -> list[bytes]:
        packed = self.keys.tobytes()
        return [packed[at : at + KEY_BYTES] for at in range(0, len(packed), KEY_BYTES)]


def shard_name(fingerprint: str, codec: Codec, keys: Sequence[bytes], lengths: Sequence[int]) -> str:
    """The file's name: the same rows of the same reader in the same codec have the same."""
    return _name(fingerprint, codec.name, codec.fingerprint, b"".join(keys), _pack(lengths, np.int32))


def shard_bytes(lengths: Sequence[int], codec: Codec) -> int:
    """Bytes of the file with rows of these lengths."""
    return _HEADER_BYTES + _INDEX_BYTES * len(lengths) + sum(lengths) * record_bytes(codec)


class ShardWriter:
    """Writes one shard whose rows are known and whose memory comes in any order.

    A context manager; what was not finished leaves no file behind.
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
            _DTYPES[codec.dtype],
            np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES),
            np.asarray(lengths, np.int32),
            np.full(len(keys), -1, np.int64),
        )
        self._starts = self.index.starts
        self._directory = directory
        with explained_disk(directory, self.index.size):
            directory.mkdir(parents=True, exist_ok=True)
            self._file, part = tempfile.mkstemp(prefix=self.index.name, suffix=PART, dir=directory)
            self._part = Path(part)
            self._open = True
            try:
                # Better to know now that the disk is too small than after hours of encoding.
                os.posix_fallocate(self._file, 0, self.index.size)
            except BaseException:
                self._abandon()
                raise

    def put(self, row: int, records_XC: Tensor) -> None:
        """Write the records of a row.

        Raises:
            MemoryStoreError: the file can't be written.
        """
        size = (int(self.index.lengths[row]), self.index.columns)
        if tuple(records_XC.shape) != size or _DTYPES.get(records_XC.dtype) != self.index.dtype:
            raise ValueError(
                f"row {row}: expected {size} of {self.index.dtype}, got {tuple(records_XC.shape)} of "
                f"{records_XC.dtype}"
            )
        self.put_bytes(row, records_XC.cpu().contiguous().view(torch.uint8).numpy().data.cast("B"))

    def put_bytes(self, row: int, packed: memoryview) -> None:
        """Write a row as it stands in another shard.

        Raises:
            MemoryStoreError: the file can't be written.
        """
        self._write(packed, self.index.offset + int(self._starts[row]) * self.index.record_bytes)
        self.index.checks[row] = zlib.crc32(packed)

    def finish(self) -> Path:
        """Force the file to the disk and give it its name.

        Raises:
            MemoryStoreError: the file can't be written.
        """
        if (self.index.checks < 0).any():
            raise ValueError(f"{(self.index.checks < 0).sum()} rows of {self.index.name} were never put")
        tensors = _packed(self.index)
        self._write(memoryview(_header(self.index, zlib.crc32(tensors)) + tensors), 0)
        final = self._directory / self.index.name
        with explained_disk(self._directory, self.index.size):
            os.fsync(self._file)
            # As other files here, not as secret as temporary ones.
            os.chmod(self._file, 0o666 & ~_umask())
            os.close(self._file)
            self._open = False
            put_in_place(self._part, final)
        return final

    def _write(self, packed: memoryview, offset: int) -> None:
        with explained_disk(self._directory, self.index.size):
            while packed:
                count = os.pwrite(self._file, packed, offset)
                packed, offset = packed[count:], offset + count

    def _abandon(self) -> None:
        if self._open:
            os.close(self._file)
            self._open = False
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
    header = _read(storage, name, 0, min(_HEADER_BYTES, size))
    try:
        facts = _facts(name, header)
        spec = facts["__metadata__"]
        rows, (tokens, columns) = facts["lengths"]["shape"][0], facts["memory"]["shape"]
        if size != _HEADER_BYTES + _INDEX_BYTES * rows + tokens * columns * _SIZES[facts["memory"]["dtype"]]:
            raise DamagedShard(f"has {size:,} bytes, not as many as its header says")
        packed = _read(storage, name, _HEADER_BYTES, _INDEX_BYTES * rows)
        index = Index(
            name,
            spec["fingerprint"],
            spec["codec"],
            spec["codebooks"],
            columns,
            facts["memory"]["dtype"],
            np.frombuffer(packed, np.uint8, KEY_BYTES * rows, 12 * rows).reshape(-1, KEY_BYTES),
            np.frombuffer(packed, "<i4", rows, 8 * rows),
            np.frombuffer(packed, "<i8", rows),
        )
        if zlib.crc32(packed) != int(spec["check"], 16):
            raise DamagedShard("the checksum of its index is wrong")
        # Whatever else the header might say, it must be the one that is written for such a shard.
        if header != _header(index, int(spec["check"], 16)) or name != _own_name(index):
            raise DamagedShard("its header is wrong")
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise DamagedShard("its header can't be read") from error
    return index


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
    """(checksum that it should have, bytes) of every row. The bytes are overwritten by the next one's."""
    buffer = memoryview(bytearray(int(index.lengths.max()) * index.record_bytes))
    for start, length, check in zip(index.starts, index.lengths, index.checks, strict=True):
        row = buffer[: int(length) * index.record_bytes]
        read_into(storage, index.name, index.offset + int(start) * index.record_bytes, row)
        yield int(check), row


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


def _facts(name: str, header: bytes) -> dict[str, Any]:
    if len(header) < _HEADER_BYTES or struct.unpack_from("<Q", header)[0] != _HEADER_BYTES - 8:
        raise DamagedShard("is no shard, or cut short")
    facts: dict[str, Any] = json.loads(header[8:])
    spec = facts["__metadata__"]
    if spec["format"] != _FORMAT:
        raise DamagedShard("is no shard of a memory")
    if int(spec["format_version"]) > FORMAT_VERSION:
        raise MemoryStoreError(
            f"{name} has format version {spec['format_version']}, this fidkit reads up to {FORMAT_VERSION}; "
            "upgrade fidkit, or build the memory again"
        )
    return facts


def _header(index: Index, check: int) -> bytes:
    ends = np.cumsum([8 * index.rows, 4 * index.rows, KEY_BYTES * index.rows, index.size - index.offset])
    shapes = {
        "checks": ("I64", [index.rows]),
        "lengths": ("I32", [index.rows]),
        "keys": ("U8", [index.rows, KEY_BYTES]),
        "memory": (index.dtype, [index.tokens, index.columns]),
    }
    facts: dict[str, Any] = {
        "__metadata__": {
            "format": _FORMAT,
            "format_version": str(FORMAT_VERSION),
            "fingerprint": index.fingerprint,
            "codec": index.codec,
            "codebooks": index.codebooks,
            "check": f"{check:08x}",
        }
    }
    begin = 0
    for (name, (dtype, shape)), end in zip(shapes.items(), ends.tolist(), strict=True):
        facts[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(facts, separators=(",", ":")).encode()
    if len(text) > _HEADER_BYTES - 8:
        raise ValueError("fingerprints are too long for the header of a shard")
    return struct.pack("<Q", _HEADER_BYTES - 8) + text.ljust(_HEADER_BYTES - 8)


def _packed(index: Index) -> bytes:
    return _pack(index.checks, np.int64) + _pack(index.lengths, np.int32) + index.keys.tobytes()


def _pack(numbers: Sequence[int] | npt.NDArray[Any], dtype: type) -> bytes:
    return np.asarray(numbers, np.dtype(dtype).newbyteorder("<")).tobytes()


def _own_name(index: Index) -> str:
    lengths = _pack(index.lengths, np.int32)
    return _name(index.fingerprint, index.codec, index.codebooks, index.keys.tobytes(), lengths)


def _name(fingerprint: str, codec: str, codebooks: str, keys: bytes, lengths: bytes) -> str:
    digest = hashlib.sha256(json.dumps([fingerprint, codec, codebooks, len(keys)]).encode())
    digest.update(keys + lengths)
    return f"{SHARD}{digest.hexdigest()[:_NAME_DIGITS]}{SUFFIX}"


def _umask() -> int:
    # Read from where it can be read without changing it for other threads, where there is such a place.
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Umask")).split()[1], 8)
    return 0o022
