"""What the memory of a corpus is on disk, and who may write to it.

    CORPUS/memory/
        manifest.sqlite                  what is stored where: the one authority
        shard-<32 hex>.safetensors       rows; immutable once the manifest names them (may lie elsewhere)
        codec.safetensors                codebooks, of product quantisation only
        units/                           planned work that is not done yet
        writer.lock                      held by the one process that builds

A shard is written under another name, forced to the disk, renamed, and its directory forced to the
disk; then one transaction of the manifest names it. That commit is the moment in which its rows exist.
A file that the manifest doesn't name is either such a shard that was not committed yet, or garbage.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from fidkit.disk import explained, held, permit, sync
from fidkit.errors import MemoryStoreError
from fidkit.paths import is_own_file, is_plain_name

FORMAT_VERSION = 1

MEMORY = "memory"
MANIFEST = "manifest.sqlite"
CODEC = "codec.safetensors"
UNITS = "units"
LOCK = "writer.lock"
SHARD = "shard-"
SUFFIX = ".safetensors"
PART = ".part"


def memory_directory(corpus: Path) -> Path:
    """Where the memory of a corpus directory is."""
    return corpus / MEMORY


def has_memory(corpus: Path) -> bool:
    """Whether a memory of the corpus was begun."""
    return (memory_directory(corpus) / MANIFEST).exists()


def refuse_link(path: Path) -> None:
    """Raises MemoryStoreError where a link, a pipe or a device stands for a file or folder of ours."""
    if path.is_symlink() or (path.exists() and not (path.is_dir() or is_own_file(path))):
        raise MemoryStoreError(
            f"{path}: is a link or no file, so others' files would be changed; put the real one in "
            "its place (only shards may lie elsewhere: `fidkit memory build --shards-at`)"
        )


@contextmanager
def writer_lock(directory: Path) -> Iterator[None]:
    """Hold a memory directory for writing, which is made if need be.

    The system releases the lock when the process dies, however it dies.

    Raises:
        MemoryStoreError: somebody else is writing, or the directory is read-only.
    """
    for path in (directory, directory / UNITS, directory / LOCK):
        refuse_link(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MemoryStoreError(
            f"{directory}: can't be written ({error.strerror}); check its permissions"
        ) from error
    busy = "another process is building this memory; wait until it is done, or end it"
    with held(directory / LOCK, MemoryStoreError, busy):
        yield


def put_in_place(part: Path, final: Path) -> None:
    """Give a file that was written and forced to the disk its name, for good."""
    permit(part)
    part.replace(final)
    sync(final.parent)


def explained_disk(directory: Path, needed_bytes: int = 0) -> AbstractContextManager[None]:
    """Say in one line why a memory can't be written.

    Raises:
        MemoryStoreError: instead of the `OSError` or SQLite's error.
    """
    needed = f"{needed_bytes / 1e6:,.0f} MB are needed for the next shard" if needed_bytes else ""
    return explained(
        directory, MemoryStoreError, "memory", after="it goes on where it stopped", needed=needed
    )


def is_shard(name: object) -> bool:
    """Whether this is what a finished shard may be called; no path ever is."""
    return is_plain_name(name) and str(name).startswith(SHARD) and str(name).endswith(SUFFIX)
