"""A memory begun as a copy of another corpus's. Rows are of what passages say, whichever corpus has them."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from fidkit.errors import MemoryStoreError
from fidkit.memory.layout import (
    CODEC,
    MANIFEST,
    PART,
    explained_disk,
    has_memory,
    memory_directory,
    put_in_place,
    refuse_link,
    writer_lock,
)  # fmt: skip
from fidkit.memory.manifest import Manifest
from fidkit.paths import remove


def begin_as_copy(directory: Path, of: Path) -> None:
    """Give a corpus the memory of another one, by hard links: only the manifest is written.

    Shards never change once they are named, so both may have them, and what is removed from one stays in the
    other. Work that isn't done yet stays behind.

    Args:
        directory: of the corpus that gets the memory; nothing is done where it has one.
        of: directory of the other corpus.

    Raises:
        MemoryStoreError: the other has none that can be copied, since it is being built, damaged, or has its
            shards outside its folder, where each would delete what both need; or the file system has no
            hard links, or the disk is full. Then there is no copy.
    """
    if has_memory(directory):
        return
    source, target = memory_directory(of), memory_directory(directory)
    with closing(Manifest.for_reading(source)) as manifest, writer_lock(source), writer_lock(target):
        meta = manifest.meta()
        if has_memory(directory):
            return
        if meta is not None and meta.shards_at:
            raise MemoryStoreError(
                f"{source}: its shards lie in {meta.shards_at}, so the memory isn't copied; run "
                f"`fidkit memory build {directory} --reader {meta.reader}`"
            )
        names = [shard.name for shard in manifest.shards()]
        if os.path.lexists(source / CODEC):
            names.append(CODEC)
        for name in names:
            _link(source / name, target / name)
        with explained_disk(target):
            part = target / f"{MANIFEST}{PART}"
            remove(part)
            manifest.copy_to(part)
            put_in_place(part, target / MANIFEST)


def _link(file: Path, to: Path) -> None:
    refuse_link(file)
    remove(to)  # of a copy that was ended before it was whole
    try:
        os.link(file, to)
    except OSError as error:
        raise MemoryStoreError(
            f"{file}: can't be linked from {to.parent} ({error.strerror}); build the memory there with "
            "`fidkit memory build`"
        ) from error
