"""What a corpus directory holds, and who may write to it.

    catalogue.sqlite    passages, documents, files, the name of the current index: the one authority
    lexical-<n>/        a tantivy index, immutable once the catalogue names it
    vectors-<n>/        vectors of the same passages, if they have any; named and immutable alike
    tokens.sqlite       cache of token ids; may be deleted at any time
    memory/             LUMEN's memory of the passages (`fidkit.memory`); no build of the corpus touches it
    writer.lock         held by the one process that builds

A build works on the next `lexical-<n>` and in one open transaction of the catalogue. The commit of
that transaction, which also names the new index and vectors, is the single moment in which the corpus
changes: before it everything new is invisible and swept by the next build, after it nothing is missing.
A long build commits now and then, after a whole file: then the catalogue says how many files are still
to be read, and a build that was interrupted goes on from there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from fidkit.disk import explained, held, shown, sync
from fidkit.errors import CorpusError
from fidkit.home import home
from fidkit.passages.load.address import absolute
from fidkit.paths import remove

FORMAT_VERSION = 2
"""Grows where documents are cut or indexed in another way: a build reads everything again then."""

CATALOGUE = "catalogue.sqlite"
TOKENS = "tokens.sqlite"
LOCK = "writer.lock"
LEXICAL = "lexical-"
VECTORS = "vectors-"
WITHOUT_VECTORS = "none"
"""What the catalogue names where somebody wanted no vectors."""
MEMORY = "memory"

# Packed sources: three times as many bytes of text, held as log, table and index.
_NEEDED_PER_SOURCE_BYTE = 9


class CorpusBusyError(CorpusError):
    """Another process is building the corpus."""


class UnwritableError(CorpusError):
    """The disk is full, or a corpus can't be written for another reason; its state before is whole."""


def is_corpus(path: Path) -> bool:
    """Whether the directory is a corpus, complete or not; one that can't be looked into is none."""
    return os.path.isfile(path / CATALOGUE)


def stored_path(path: str) -> str:
    """A path as the catalogue keeps it: of its bytes alone, whatever a process' locale makes of them."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def real_path(stored: str) -> str:
    """The path that `stored_path` made this of, as this process spells it."""
    return os.fsdecode(stored.encode("utf-8", "surrogateescape"))


def default_location(sources: Iterable[str | os.PathLike[str]]) -> Path:
    """Where the corpus of these sources lives when nobody says where.

    `$FIDKIT_HOME/corpora/<hash>`, by default below `~/.cache/fidkit`. The hash is of the absolute paths
    in their order, so the same sources find the same corpus from any working directory.
    """
    paths = b"\0".join(os.fsencode(absolute(source)) for source in sources)
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
        is_chosen = not directory.is_relative_to(home())
        mend = (
            "choose another directory" if is_chosen else "set FIDKIT_HOME to a directory that can be written"
        )
        raise CorpusError(
            f"{shown(directory)}: can't make a corpus here ({error.strerror}); {mend}"
        ) from error
    if (directory / LOCK).is_symlink():
        raise CorpusError(f"{directory / LOCK}: is a link, so that building would write elsewhere; delete it")
    if foreign and not is_corpus(directory):
        raise CorpusError(
            f"{shown(directory)}: expected a new, an empty or a corpus directory, but it holds "
            f"{shown(foreign[0])!r}; choose another directory"
        )


def _is_ours(name: str) -> bool:
    return name in (LOCK, MEMORY) or name.startswith((CATALOGUE, TOKENS, LEXICAL, VECTORS))


def writer_lock(
    directory: Path, wait: float = 0.0, waiting: Callable[[], None] | None = None
) -> AbstractContextManager[bool]:
    """Hold the corpus for writing; the system releases it when the process dies, however it dies.

    Args:
        directory: of the corpus.
        wait: seconds to wait for somebody else; `math.inf` for as long as it takes.
        waiting: called once when the wait begins.

    Returns:
        A context, whose value is whether somebody else had to be waited for.

    Raises:
        CorpusBusyError: somebody else is writing.
        CorpusError: the directory is read-only.
    """
    busy = "another process is building this corpus; wait until it is done, or build into another directory"
    return held(directory / LOCK, CorpusError, busy, wait=wait, waiting=waiting, refused=CorpusBusyError)


def sweep(directory: Path, keep: Collection[str | None]) -> None:
    """Delete the indexes and vectors that the catalogue does not name. Only with the writer's lock.

    Args:
        directory: of the corpus.
        keep: the names of those that stay: what the catalogue names, and vectors that a build which was
            ended had made, which the next uses again.
    """
    for entry in (*directory.glob(LEXICAL + "*"), *directory.glob(VECTORS + "*")):
        if entry.name not in keep:
            # Gone at one moment: a reader that is about to open it finds all of it or nothing.
            gone = entry.with_suffix(".gone")
            with suppress(OSError):
                entry.rename(gone)
            remove(gone)


def sync_directory(directory: Path) -> None:
    """Force the files of a directory and its entries to the disk."""
    for path in (*directory.iterdir(), directory, directory.parent):
        sync(path)


def explained_disk(
    directory: Path, source_bytes: int = 0, *, needed_bytes: int = 0
) -> AbstractContextManager[None]:
    """Say in one line why a corpus can't be written, and how much room it takes as far as that is known.

    Args:
        directory: of the corpus.
        source_bytes: of the files that are read.
        needed_bytes: of what is written, where that is known better.

    Raises:
        UnwritableError: instead of the `OSError`, SQLite's error or `WriteError`.
    """
    needed = needed_bytes or source_bytes * _NEEDED_PER_SOURCE_BYTE
    estimate = f"about {needed / 1e6:,.0f} MB are needed" if needed else ""
    return explained(
        directory, UnwritableError, "corpus", after="what was committed before is whole", needed=estimate
    )


def bytes_on_disk(directory: Path) -> int:
    """Size of everything in the corpus directory."""
    return sum(sizes_on_disk(directory).values())


def sizes_on_disk(directory: Path) -> dict[str, int]:
    """Bytes of the catalogue, the index, vectors, the token cache and the memory, as far as there are any."""
    kinds = (
        *((CATALOGUE, "catalogue"), (LEXICAL, "index"), (VECTORS, "vectors")),
        *((TOKENS, "tokens"), (MEMORY, "memory")),
    )
    sizes: dict[str, int] = {}
    # What a build sweeps meanwhile is left out: `rglob` would fail at a folder that is gone.
    for entry in (Path(folder, name) for folder, _, names in os.walk(directory) for name in names):
        first = entry.relative_to(directory).parts[0]
        kind = next((kind for name, kind in kinds if first.startswith(name)), "other")
        try:
            size = entry.stat().st_size if entry.is_file() else 0
        except FileNotFoundError:
            continue
        if size:
            sizes[kind] = sizes.get(kind, 0) + size
    return sizes
