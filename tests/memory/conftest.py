from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from disks import mounted
from fidkit.memory import MemoryWriter, make_codec, memory_meta
from memory.toy import FINGERPRINT, WIDTH, write_shard


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Makes the memory of a corpus from the numbers of the passages in each shard; returns its directory."""

    def make(*shards: Sequence[int], codec: str = "float32", name: str = "corpus") -> Path:
        corpus = tmp_path / name
        meta = memory_meta(FINGERPRINT, "tiny-lumen", make_codec(codec, WIDTH, corpus / "memory"), 2)
        with MemoryWriter.opened(corpus, meta) as writer:
            for numbers in shards:
                writer.commit(write_shard(writer, numbers))
        return corpus

    return make


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 4 MB."""
    with mounted(tmp_path / "disk", "tmpfs", "size=4m") as disk:
        yield disk
