"""A unit of work: token ids whose memory becomes one shard, in a file that needs nothing beside it.

    ids      U16 or I32 [X]   tokens of all passages, one after the other
    keys     U8  [n, 16]      which passages they are (`fidkit.passages.token_cache.passage_key`)
    lengths  I32 [n]          tokens of each

Letters: n passages, X tokens of all of them.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fidkit.errors import MemoryStoreError
from fidkit.memory.index import KEY_BYTES
from fidkit.memory.layout import PART, explained_disk, put_in_place
from fidkit.paths import is_own_file, is_whole_number

_FORMAT = "fidkit-memory-unit"
_FORMAT_VERSION = 1
_TENSORS = ("ids", "keys", "lengths")
_NARROW_IDS = 1 << 16


@dataclass(frozen=True, slots=True)
class Identity:
    """What decides the bytes of a memory besides its passages.

    Attributes:
        fingerprint: of the reader (`fidkit.engine.fingerprint`).
        codec: its name.
        precision: that memory is computed with, `float32` or `bfloat16`.
    """

    fingerprint: str
    codec: str
    precision: str


@dataclass(frozen=True)
class Unit:
    """Passages whose memory becomes one shard, the longest first.

    Attributes:
        identity: of the memory that they are for.
        batch_tokens: how many tokens go through the encoder at a time.
        keys: 16 bytes of each passage.
        lengths: [n].
        ids: [X].
    """

    identity: Identity
    batch_tokens: int
    keys: list[bytes]
    lengths: npt.NDArray[np.int32]
    ids: npt.NDArray[Any]

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """[n], where each passage begins in `ids`."""
        ends: npt.NDArray[np.int64] = self.lengths.cumsum(dtype=np.int64)
        return ends - self.lengths


def id_dtype(vocabulary_size: int) -> type[np.generic]:
    """The narrowest type for token ids."""
    return np.uint16 if vocabulary_size <= _NARROW_IDS else np.int32


def write_unit(
    path: Path, identity: Identity, batch_tokens: int, keys: Sequence[bytes], ids: Sequence[npt.NDArray[Any]]
) -> None:
    """Write a unit, whole or not at all.

    Args:
        path: of the file.
        identity: of the memory.
        batch_tokens: see `Unit`.
        keys: of the passages.
        ids: tokens of each passage, all of one type.

    Raises:
        MemoryStoreError: the disk is full or can't be written.
    """
    tensors = {
        "ids": np.concatenate(ids),
        "keys": np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1),
        "lengths": np.array([len(row) for row in ids], np.int32),
    }
    metadata = {
        "format": _FORMAT,
        "format_version": str(_FORMAT_VERSION),
        "fingerprint": identity.fingerprint,
        "codec": identity.codec,
        "precision": identity.precision,
        "batch_tokens": str(batch_tokens),
    }
    metadata["check"] = _check(metadata, tensors)
    part = path.with_name(path.name + PART)
    with explained_disk(path.parent):
        with part.open("wb") as file:
            file.write(save(tensors, metadata))
            file.flush()
            os.fsync(file.fileno())
        put_in_place(part, path)


def read_unit(path: Path) -> Unit:
    """Read a unit.

    Raises:
        MemoryStoreError: missing, damaged, or of a newer format.
    """
    try:
        if not is_own_file(path):
            raise ValueError("there is no such file")
        with safe_open(path, framework="np") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
        version = int(facts["format_version"])
        if version > _FORMAT_VERSION:
            raise MemoryStoreError(
                f"{path} has format version {version}, this fidkit reads up to {_FORMAT_VERSION}; "
                "upgrade fidkit"
            )
        if facts["format"] != _FORMAT or facts.pop("check") != _check(facts, tensors):
            raise ValueError("its checksum is wrong")
        identity = Identity(facts["fingerprint"], facts["codec"], facts["precision"])
        batch_tokens = int(facts["batch_tokens"])
        _require_possible(tensors, batch_tokens)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise MemoryStoreError(
            f"{path}: expected planned work, but {error}; delete the folder {path.parent} and run the build "
            "again, what is built is kept"
        ) from error
    packed, width = tensors["keys"].tobytes(), tensors["keys"].shape[1]
    keys = [packed[at : at + width] for at in range(0, len(packed), width)]
    return Unit(identity, batch_tokens, keys, tensors["lengths"], tensors["ids"])


def _require_possible(tensors: Mapping[str, npt.NDArray[Any]], batch_tokens: int) -> None:
    """Refuse what no plan writes, whatever its checksum says.

    Raises:
        ValueError: what is wrong.
    """
    ids, keys, lengths = (tensors[name] for name in _TENSORS)
    kinds = (ids.ndim, keys.dtype.str, lengths.dtype.str, lengths.ndim)
    if ids.dtype.kind not in "ui" or kinds != (1, "|u1", "<i4", 1):
        raise ValueError("its tensors are of other types")
    if keys.shape != (len(lengths), KEY_BYTES) or len(np.unique(keys, axis=0)) != len(lengths):
        raise ValueError("its keys are not one for each passage")
    if not len(lengths) or lengths.min() < 1 or lengths.sum(dtype=np.int64) != len(ids):
        raise ValueError("its lengths are not those of its passages")
    if ids.min() < 0 or not is_whole_number(batch_tokens, least=1):
        raise ValueError("it has impossible numbers")


def _check(facts: Mapping[str, str], tensors: Mapping[str, npt.NDArray[Any]]) -> str:
    check = zlib.crc32(json.dumps(sorted(facts.items())).encode())
    for name in _TENSORS:
        check = zlib.crc32(np.ascontiguousarray(tensors[name]).tobytes(), check)
    return f"{check:08x}"
