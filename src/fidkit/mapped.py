"""Safetensors files mapped as NumPy's arrays: a page is read when it is first looked at."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np


def arrays(path: Path, names: Collection[str], types: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file that is known to be a sound one.

    The mapping is private. Writing to an array changes memory, never the file; and the file may be replaced
    or deleted, but not be written to in place, while one of its arrays is alive.

    Args:
        path: of the file; `safe_open` has looked at the sizes and places of all.
        names: of all its tensors.
        types: NumPy's types by the names that the format has for those that may occur.

    Raises:
        ValueError: a tensor is of another type.
        OSError: the file can't be read or mapped.
    """
    if not names:  # nothing to map
        return {}
    with path.open("rb") as raw:
        size = int.from_bytes(raw.read(8), "little")
        header = json.loads(raw.read(size))
    mapped = np.memmap(path, np.uint8, "c")[8 + size :].view(np.ndarray)
    return {name: _array(mapped, header[name], types) for name in names}


def _array(mapped: np.ndarray, entry: Mapping[str, Any], types: Mapping[str, Any]) -> np.ndarray:
    kind = types.get(entry["dtype"])
    if kind is None:
        raise ValueError(f"it has numbers of the type {entry['dtype']}, expected one of {', '.join(types)}")
    begin, end = entry["data_offsets"]
    array: np.ndarray = mapped[begin:end].view(kind).reshape(entry["shape"])
    return array
