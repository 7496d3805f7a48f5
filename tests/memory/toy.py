"""A small memory whose rows are known by number."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fidkit.memory import MemoryWriter, ShardWriter, make_codec

FINGERPRINT = "f" * 64
WIDTH = 24


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def row(number: int, width: int = WIDTH) -> Tensor:
    """The memory of passage `number`: 1 to 7 tokens that only it has."""
    generator = torch.Generator().manual_seed(number)
    return torch.randn(1 + number % 7, width, generator=generator)


def write_shard(writer: MemoryWriter, numbers: Sequence[int], width: int = WIDTH) -> Path:
    """A finished shard that is not committed, with the rows of these passages."""
    codec = make_codec(writer.meta.codec, width, writer.directory)
    rows = [codec.encode(row(number, width)) for number in numbers]
    with ShardWriter(
        writer.directory, list(map(key, numbers)), list(map(len, rows)), codec, writer.meta.fingerprint
    ) as shard:
        for at in reversed(range(len(rows))):
            shard.put(at, rows[at])
        return shard.finish()
