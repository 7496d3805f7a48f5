"""The memory of a corpus on disk: its size. One vector a passage token, as wide as the memory encoder."""

from __future__ import annotations

from fidkit.config import ReaderConfig
from fidkit.cost.workload import CODECS, one_of
from fidkit.errors import UsageError

PLAIN_BYTES = {"float32": 4, "bf16": 2}  # of a value
INT8_SCALE_BYTES = 2  # one bf16 scale a token
PQ_DIMENSIONS = 16  # of one subspace, as in MEMORY-VQ
PQ_CODE_BYTES = 2  # 65,536 codes a subspace


def bytes_per_token(config: ReaderConfig, codec: str) -> int:
    """Bytes of one token's memory in a store.

    float32 is 4 a value; bf16 is 2; int8 is 1 a value and a scale; pq is 2 a subspace of 16 values.
    Codebooks of pq, the same for any number of passages, are not counted.

    Raises:
        UsageError: unknown codec.
    """
    one_of("codec", codec, CODECS)
    width = config.memory_width
    if codec in PLAIN_BYTES:
        return PLAIN_BYTES[codec] * width
    if codec == "int8":
        return width + INT8_SCALE_BYTES
    return -(-width // PQ_DIMENSIONS) * PQ_CODE_BYTES


def store_bytes(config: ReaderConfig, tokens: int, codec: str) -> int:
    """Bytes of the memory of passages that have `tokens` tokens together.

    Raises:
        UsageError: unknown codec, or a reader without memory layers.
    """
    require_memory(config)
    return tokens * bytes_per_token(config, codec)


def require_memory(config: ReaderConfig) -> None:
    """Raises UsageError for a reader that stores nothing."""
    if not config.memory_layers:
        raise UsageError(
            "this reader runs all encoder layers live and stores no memory; choose one with memory layers, "
            "such as lumen-base"
        )
