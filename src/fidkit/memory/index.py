"""What is in a shard: the memory of some passages in one safetensors file that never changes.

    checks   I64 [n]       CRC-32 of each row's bytes
    lengths  I32 [n]       tokens of each row
    keys     U8  [n, 16]   which passage it is (`fidkit.passages.token_cache.passage_key`)
    memory   [X, C]        the records of all rows one after the other, without padding

Any library for safetensors can read it. Here it is written and read by hand: its header has a fixed size,
so a file's size follows from lengths and codec alone. Every byte is covered by a check: those of a row by
its CRC, the first three tensors by a CRC in the header, and the header by being what it has to be for what
it says.

Letters: n rows, X tokens of all rows, C columns.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fidkit.errors import MemoryStoreError
from fidkit.memory.layout import FORMAT_VERSION, SHARD, SUFFIX
from fidkit.paths import is_whole_number

KEY_BYTES = 16
HEADER_BYTES = 1024
INDEX_BYTES = 8 + 4 + KEY_BYTES  # of a row
DTYPES = {"float32": "F32", "bfloat16": "BF16", "int8": "I8", "uint16": "U16"}

_FORMAT = "fidkit-memory"
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
        return HEADER_BYTES + INDEX_BYTES * self.rows

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


class Header(NamedTuple):
    """What a shard says of itself first."""

    fingerprint: str
    codec: str
    codebooks: str
    check: int
    rows: int
    tokens: int
    columns: int
    dtype: str


def parse_header(name: str, packed: bytes, size: int) -> Header:
    """What the first `HEADER_BYTES` of a file of this size say.

    Raises:
        DamagedShard: they are no header, or that of a file of another size.
        MemoryStoreError: a newer format.
    """
    if len(packed) < HEADER_BYTES or struct.unpack_from("<Q", packed)[0] != HEADER_BYTES - 8:
        raise DamagedShard("is no shard, or cut short")
    try:
        facts = json.loads(packed[8:])
        spec, (tokens, columns) = facts["__metadata__"], facts["memory"]["shape"]
        if spec["format"] != _FORMAT:
            raise DamagedShard("is no shard of a memory")
        version = int(spec["format_version"])
        if version > FORMAT_VERSION:
            raise MemoryStoreError(
                f"{name} has format version {version}, this fidkit reads up to {FORMAT_VERSION}; upgrade "
                "fidkit, or build the memory again"
            )
        (rows,), dtype = facts["lengths"]["shape"], facts["memory"]["dtype"]
        header = Header(
            spec["fingerprint"],
            spec["codec"],
            spec["codebooks"],
            int(spec["check"], 16),
            rows,
            tokens,
            columns,
            dtype,
        )
        words = (header.fingerprint, header.codec, header.codebooks)
        if not all(map(is_whole_number, (rows, tokens, columns))) or not all(
            isinstance(w, str) for w in words
        ):
            raise DamagedShard("its header is wrong")
        if size != HEADER_BYTES + INDEX_BYTES * rows + tokens * columns * _SIZES[dtype]:
            raise DamagedShard(f"has {size:,} bytes, not as many as its header says")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DamagedShard("its header can't be read") from error
    return header


def parse_index(name: str, first: bytes, header: Header, packed: bytes) -> Index:
    """The index of a shard.

    Args:
        name: of the file.
        first: its first `HEADER_BYTES`.
        header: what they say.
        packed: the `INDEX_BYTES` of each row, which follow.

    Raises:
        DamagedShard: it is not what was written.
    """
    rows = header.rows
    if zlib.crc32(packed) != header.check:
        raise DamagedShard("the checksum of its index is wrong")
    index = Index(
        name,
        header.fingerprint,
        header.codec,
        header.codebooks,
        header.columns,
        header.dtype,
        np.frombuffer(packed, np.uint8, KEY_BYTES * rows, 12 * rows).reshape(-1, KEY_BYTES),
        np.frombuffer(packed, "<i4", rows, 8 * rows),
        np.frombuffer(packed, "<i8", rows),
    )
    # Whatever else the header might say, it must be the one that is written for such a shard.
    if (index.lengths < 1).any() or not _is_header(first, index) or name != _own_name(index):
        raise DamagedShard("its header is wrong")
    return index


def _is_header(packed: bytes, index: Index) -> bool:
    try:
        return packed == pack_header(index)
    except ValueError:  # none could be packed
        return False


def pack_header(index: Index) -> bytes:
    """The first `HEADER_BYTES` of a shard."""
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
            "check": f"{zlib.crc32(pack_index(index)):08x}",
        }
    }
    begin = 0
    for (name, (dtype, shape)), end in zip(shapes.items(), ends.tolist(), strict=True):
        facts[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(facts, separators=(",", ":")).encode()
    if len(text) > HEADER_BYTES - 8:
        raise ValueError("fingerprints are too long for the header of a shard")
    return struct.pack("<Q", HEADER_BYTES - 8) + text.ljust(HEADER_BYTES - 8)


def pack_index(index: Index) -> bytes:
    """What follows the header: checks, lengths and keys."""
    return _pack(index.checks, np.int64) + _pack(index.lengths, np.int32) + index.keys.tobytes()


def _pack(numbers: Sequence[int] | npt.NDArray[Any], dtype: type) -> bytes:
    return np.asarray(numbers, np.dtype(dtype).newbyteorder("<")).tobytes()


def _own_name(index: Index) -> str:
    return name_of(index.fingerprint, index.codec, index.codebooks, index.keys.tobytes(), index.lengths)


def name_of(
    fingerprint: str, codec: str, codebooks: str, keys: bytes, lengths: Sequence[int] | npt.NDArray[np.int32]
) -> str:
    """The file's name, from what is in it."""
    digest = hashlib.sha256(json.dumps([fingerprint, codec, codebooks, len(keys)]).encode())
    digest.update(keys + _pack(lengths, np.int32))
    return f"{SHARD}{digest.hexdigest()[:_NAME_DIGITS]}{SUFFIX}"
