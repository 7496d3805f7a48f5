"""A corpus begun as a copy of another, so that a build reads only what the two don't have in common."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from fidkit.passages.local.catalogue import Catalogue
from fidkit.passages.local.layout import CATALOGUE, explained_disk, is_corpus, prepare, writer_lock
from fidkit.paths import remove


def begin_as_copy(directory: Path, of: Path, wait: float = 0.0) -> None:
    """Copy a corpus to where there is none; its sources are those of the other until the next build.

    Files of index and vectors never change, so both have them by hard link where the file system has those.
    Memory and caches stay behind.

    Args:
        directory: of the copy; nothing is done where it is a corpus already.
        of: the other, at the state that was committed last; nothing is done where it is none.
        wait: seconds to wait for another process that builds one of them.

    Raises:
        CorpusBusyError: another process is building one of them.
        CorpusError: the other is damaged, or the disk full. Then there is no copy.
    """
    if is_corpus(directory) or not is_corpus(of):
        return
    prepare(directory)
    # Nobody sweeps what is being copied, or makes a corpus in the same place.
    with writer_lock(directory, wait), writer_lock(of, wait), explained_disk(directory):
        if is_corpus(directory):
            return
        with closing(Catalogue.for_reading(of)) as catalogue:
            named = catalogue.names()
        for name in named:
            remove(directory / name)
            shutil.copytree(of / name, directory / name, copy_function=_linked)
        whole = directory / f"{CATALOGUE}.copied"
        remove(whole)
        with (
            closing(sqlite3.connect(f"file:{of / CATALOGUE}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(whole)) as target,
        ):
            source.backup(target)
        whole.rename(directory / CATALOGUE)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
