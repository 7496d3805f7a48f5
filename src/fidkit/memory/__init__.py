"""LUMEN's memory of a corpus, on disk: `MemoryStore` reads it, `MemoryWriter` changes it. No model code.

layout -> codecs -> shard, storage -> manifest -> fetch, store, writer
"""

from fidkit.memory.codecs import Codec, make_codec
from fidkit.memory.fetch import Fetched
from fidkit.memory.layout import has_memory
from fidkit.memory.manifest import MemoryMeta
from fidkit.memory.shard import ShardWriter, shard_bytes, shard_name
from fidkit.memory.store import Located, MemoryInfo, MemoryStore
from fidkit.memory.writer import MemoryWriter, memory_meta
from fidkit.records import CODECS

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
