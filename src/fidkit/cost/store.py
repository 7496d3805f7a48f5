"""The memory of a corpus on disk: its size. One vector a passage token, as wide as the memory encoder."""

from __future__ import annotations

from fidkit.config import ReaderConfig
from fidkit.errors import UsageError
from fidkit.records import bytes_per_token


def store_bytes(config: ReaderConfig, tokens: int, codec: str) -> int:
    """Bytes of the memory of passages that have `tokens` tokens together.

    Raises:
        UsageError: unknown codec, or a reader without memory layers.
    """
    require_memory(config)
    return tokens * bytes_per_token(config.memory_width, codec)


def require_memory(config: ReaderConfig) -> None:
    """Raises UsageError for a reader that stores nothing."""
    if not config.memory_layers:
        raise UsageError(
            "this reader runs all encoder layers live and stores no memory; choose one with memory layers, "
            "such as lumen-base"
        )
