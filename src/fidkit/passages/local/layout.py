"""What a corpus directory holds, and who may write to it.

    catalogue.sqlite    passages, files and the name of the current lexical index: the one authority
    lexical-<n>/        a tantivy index, immutable once the catalogue names it
    tokens.sqlite       cache of token ids; may be deleted at any time
    memory/             LUMEN's memory of the passages (`fidkit.memory`); no build of the corpus touches it
    writer.lock         held (flock) by the one process that builds

A build works on the next `lexical-<n>` and in one open transaction of the catalogue. The commit of
that transaction, which also names the new index, is the single moment in which the corpus changes:
before it everything new is invisible and swept by the next build, after it nothing is missing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fidkit.disk import held, sync
from fidkit.errors import CorpusError
from fidkit.home import home

FORMAT_VERSION = 1

CATALOGUE = "catalogue.sqlite"
TOKENS = "tokens.sqlite"
LOCK = "writer.lock"
LEXICAL = "lexical-"
MEMORY = "memory"

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SCARCE_BYTES = 8_000_000
# Packed sources: three times as many bytes of text, held as log, table and index.
_NEEDED_PER_SOURCE_BYTE = 9


def is_corpus(path: Path) -> bool:
    """Whether the directory is a corpus, complete or not."""
    return (path / CATALOGUE).is_file()


def default_location(sources: Iterable[str | os.PathLike[str]]) -> Path:
    """Where the corpus of these sources lives when nobody says where.

    `$FIDKIT_HOME/corpora/<hash>`, by default below `~/.cache/fidkit`. The hash is of the absolute paths
    in their order, so the same sources find the same corpus from any working directory.
    """
    paths = b"\0".join(os.fsencode(Path(source).expanduser().resolve()) for source in sources)
    return home() / "corpora" / hashlib.sha256(paths).hexdigest()[:16]


def prepare(directory: Path) -> None:
    """Make sure that a corpus may be written here.

    Raises:
        CorpusError: the path is a file, can't be made, or is a directory with other things in it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        foreign = sorted(entry.name for entry in directory.iterdir() if not _is_ours(entry.name))
    except OSError as error:
        raise CorpusError(
            f"{directory}: can't make a corpus here ({error.strerror}); choose another directory"
        ) from error
    if foreign and not is_corpus(directory):
        raise CorpusError(
            f"{directory}: expected a new, an empty or a corpus directory, but it holds {foreign[0]!r}; "
            "choose another directory"
        )


def _is_ours(name: str) -> bool:
    return name in (LOCK, MEMORY) or name.startswith((CATALOGUE, TOKENS, LEXICAL))


@contextmanager
def writer_lock(directory: Path) -> Iterator[None]:
    """Hold the corpus for writing; the system releases it when the process dies, however it dies.

    Raises:
        CorpusError: somebody else is writing, or the directory is read-only.
    """
    busy = "another process is building this corpus; wait until it is done, or build into another directory"
    with held(directory / LOCK, CorpusError, busy):
        yield


def sweep(directory: Path, keep: str | None) -> None:
    """Delete the lexical indexes that the catalogue does not name. Only with the writer's lock."""
    for entry in directory.glob(LEXICAL + "*"):
        if entry.name != keep:
            # Gone at one moment: a reader that is about to open it finds all of it or nothing.
            gone = entry.with_suffix(".gone")
            with suppress(OSError):
                entry.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def sync_directory(directory: Path) -> None:
    """Force the files of a directory and its entries to the disk."""
    for path in (*directory.iterdir(), directory, directory.parent):
        sync(path)


@contextmanager
def explained_disk(directory: Path, source_bytes: int = 0) -> Iterator[None]:
    """Turn the ways in which SQLite, tantivy and the system say "disk full" into one error.

    Raises:
        CorpusError: the disk is full, or the files of the corpus could not be written for another reason.
    """
    try:
        yield
    # tantivy raises ValueError for everything, and says only that its threads ended.
    except (OSError, sqlite3.OperationalError, ValueError) as error:
        free = shutil.disk_usage(directory).free
        needed = source_bytes * _NEEDED_PER_SOURCE_BYTE
        says_full = getattr(error, "errno", None) in _FULL or "full" in str(error)
        if says_full or free < max(_SCARCE_BYTES, needed // 10):
            estimate = f", about {needed / 1e6:,.0f} MB are needed" if needed else ""
            raise CorpusError(
                f"{directory}: the disk is full ({free / 1e6:,.0f} MB free{estimate}); free some space "
                "and run the build again, the corpus is as it was before"
            ) from error
        raise CorpusError(
            f"{directory}: the corpus can't be written ({error}); it is as it was before, check the disk and "
            "run the build again"
        ) from error


def bytes_on_disk(directory: Path) -> int:
    """Size of everything in the corpus directory."""
    total = 0
    for entry in directory.rglob("*"):
        try:
            total += entry.stat().st_size if entry.is_file() else 0
        except FileNotFoundError:  # swept by a build meanwhile
            continue
    return total
