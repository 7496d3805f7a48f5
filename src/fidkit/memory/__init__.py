"""LUMEN's memory of a corpus, on disk: `MemoryStore` reads it, `MemoryWriter` changes it. No model code.

layout -> codecs -> shard, storage -> manifest -> fetch, store, writer
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fidkit.memory.layout import has_memory
from fidkit.records import CODECS

if TYPE_CHECKING:
    from fidkit.memory.codecs import Codec, make_codec
    from fidkit.memory.fetch import Fetched
    from fidkit.memory.manifest import MemoryMeta
    from fidkit.memory.shard import ShardWriter, shard_bytes, shard_name
    from fidkit.memory.store import Located, MemoryInfo, MemoryStore
    from fidkit.memory.writer import MemoryWriter, memory_meta

_WITH_TORCH = {
    "codecs": ("Codec", "make_codec"),
    "fetch": ("Fetched",),
    "manifest": ("MemoryMeta",),
    "shard": ("ShardWriter", "shard_bytes", "shard_name"),
    "store": ("Located", "MemoryInfo", "MemoryStore"),
    "writer": ("MemoryWriter", "memory_meta"),
}


def __getattr__(name: str) -> Any:
    for module, names in _WITH_TORCH.items():
        if name in names:
            return getattr(import_module(f"fidkit.memory.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "CODECS",
    "Codec",
    "Fetched",
    "Located",
    "MemoryInfo",
    "MemoryMeta",
    "MemoryStore",
    "MemoryWriter",
    "ShardWriter",
    "has_memory",
    "make_codec",
    "memory_meta",
    "shard_bytes",
    "shard_name",
]
