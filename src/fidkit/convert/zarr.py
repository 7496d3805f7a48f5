"""The arrays of a T5X checkpoint: a folder of zarr arrays, and `checkpoint`, a msgpack file, for small ones.

Read with TensorStore, T5X's own library, since zarr arrays of bfloat16 are its invention.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fidkit.errors import CheckpointError

INDEX = "checkpoint"
_MOST_PACKED = 1000  # values in a byte: no codec of zarr packs zeros closer
ARRAY = ".zarray"
NDARRAY = 1
"""flax's number for an array in msgpack: shape, type and bytes, packed again."""


def find(directory: Path) -> Path | None:
    """The folder of the arrays: this one, or that of the latest step below it."""
    if any(directory.glob(f"*/{ARRAY}")) or any(directory.glob(f"target/**/{ARRAY}")):
        return directory
    steps = [path for path in directory.glob("checkpoint_*") if path.name.split("_")[-1].isdecimal()]
    latest = max(steps, key=lambda path: int(path.name.split("_")[-1]), default=None)
    return None if latest is None or latest == directory else find(latest)


def read_arrays(directory: Path, prefix: str, end: str = "") -> dict[str, Tensor]:
    """The arrays below `prefix`, as float32, by their names without it; dots between the parts.

    Args:
        directory: as `find` gives it.
        prefix: such as `target`.
        end: what names end with; taken off too.

    Raises:
        CheckpointError: damaged arrays, or no library to read them with.
    """
    arrays: dict[str, Any] = dict(_small(directory / INDEX, prefix, end))
    for path in sorted(directory.rglob(ARRAY)):
        name = path.parent.relative_to(directory).as_posix().replace("/", ".")
        if name.startswith(f"{prefix}.") and name.endswith(end):
            arrays[name[len(prefix) + 1 : len(name) - len(end)]] = _read(path.parent)
    return {name: _tensor(array, f"{directory}: {prefix}.{name}") for name, array in arrays.items()}


def _read(path: Path) -> Any:
    tensorstore = _library("tensorstore")
    _require_bytes(path)
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(path)}}
    try:
        return tensorstore.open(spec, open=True, read=True).result().read().result()
    except (ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{path}: expected a zarr array, but {reason}; download it again") from error


def _require_bytes(path: Path) -> None:
    """Refuse an array that says it is far larger than what is there: it would be made of nothing but RAM.

    Raises:
        CheckpointError: it is, or its description can't be read.
    """
    there = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    try:
        if not (path / ARRAY).is_file():
            raise ValueError(f"{ARRAY} is no file")
        shape = json.loads((path / ARRAY).read_text(encoding="utf-8"))["shape"]
        values = math.prod(int(size) for size in shape)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected a zarr array, but {error}; download it again") from error
    if values > _MOST_PACKED * there:
        raise CheckpointError(
            f"{path}: says it has {values:,} values, but {there:,} bytes are there; download it again"
        )


def _library(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise CheckpointError(
            f"a T5X checkpoint is read with {name}, which isn't installed; `pip install 'fidkit[t5x]'`"
        ) from error


def _tensor(array: Any, where: str) -> Tensor:
    # Integers are bfloat16 in disguise in T5X' first format, which T5X itself refuses.
    if array.dtype.kind in "iub":
        raise CheckpointError(f"{where} holds {array.dtype}, expected floats; save it with a newer T5X")
    return torch.from_numpy(np.ascontiguousarray(array.astype(np.float32)))


def _small(index: Path, prefix: str, end: str) -> Iterator[tuple[str, Any]]:
    """Arrays that T5X didn't think worth a folder."""
    if not index.is_file():
        return
    msgpack = _library("msgpack")
    try:
        content = msgpack.unpackb(index.read_bytes(), ext_hook=_array, raw=False, strict_map_key=False)
    except (ValueError, OSError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{index}: expected T5X's msgpack index, but {error}; download it again"
        ) from error
    if isinstance(content, dict):
        for name, value in _leaves(content.get("optimizer", content)):
            if name.startswith(f"{prefix}.") and name.endswith(end) and isinstance(value, np.ndarray):
                yield name[len(prefix) + 1 : len(name) - len(end)], value


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, tree


def _array(code: int, data: bytes) -> Any:
    if code != NDARRAY:
        return None
    shape, dtype, raw = _library("msgpack").unpackb(data, raw=False)
    if dtype == "bfloat16":
        return torch.frombuffer(bytearray(raw), dtype=torch.bfloat16).float().numpy().reshape(shape)
    return np.frombuffer(raw, dtype=dtype).reshape(shape)
