"""A small memory whose rows are known by number."""

import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


def open_files() -> set[tuple[str, str]]:
    """Descriptors of this process and what they are of."""
    names = os.listdir("/proc/self/fd")
    paths = [f"/proc/self/fd/{name}" for name in names]
    return {(path, os.readlink(path)) for path in paths if os.path.lexists(path)}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may become larger meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
