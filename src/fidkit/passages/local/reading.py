"""What a build reads: files in their order, texts here and everything else in workers, some of it ahead.

By Ray, all documents are read by workers on its machines. Passage files are always read here, since they are
cut already.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fidkit.cluster import By
from fidkit.passages.load.address import is_in_store
from fidkit.passages.load.cutting import Cutting
from fidkit.passages.load.extras import READS_IT
from fidkit.passages.load.found import SourceFile, loader_for
from fidkit.passages.load.packed import Packed, pack
from fidkit.passages.load.record import NEXT_BUILD, Row, UnreadableFile
from fidkit.passages.load.rows import passages_of, read_rows, unpacked
from fidkit.passages.load.table import PACKED, Loader
from fidkit.passages.local.away import mounts_below

if TYPE_CHECKING:
    from fidkit.passages.load.fetched import Fetched, Fetcher
    from fidkit.passages.load.workers import Limits, Read, Workers

_HERE = "fidkit.passages.load"
# Code of ours alone, which only looks at characters. All others are read apart, and texts that are large.
_READ_HERE = {
    *(f"{_HERE}.text:read_text", f"{_HERE}.markdown:read_markdown"),
    *(f"{_HERE}.rst:read_rst", f"{_HERE}.code:read_code"),
}
_LARGEST_HERE = 1_000_000
"""Bytes of a text that is read in this process: it is done in a moment, and takes little memory."""

Part = tuple[Packed | None, Iterable[Row]]
"""A document with its passages, or the passages of a passage file."""


_GONE = {errno.ENOENT: "it was deleted or moved meanwhile", errno.EACCES: os.strerror(errno.EACCES)}


def gone(error: OSError, roots: Sequence[str], mounts: Sequence[str] = ()) -> str:
    """What is said of a file that was found and can't be opened any more; empty where reading has to end.

    Args:
        error: that opening it led to.
        roots: the sources. One that isn't there, or is an empty folder, may be a share that was lost; what it
            held isn't to be forgotten then.
        mounts: where file systems were mounted in the sources when the build began (`away.mounts_below`).
    """
    try:
        there = set(mounts) <= set(mounts_below(roots)) and all(map(_is_there, roots))
    except OSError:
        there = False
    return _GONE.get(error.errno or 0, "") if there else ""


def _is_there(root: str) -> bool:
    if is_in_store(root):
        from fidkit.passages.load.objects import holds_any

        return holds_any(root)
    return bool(os.listdir(root)) if os.path.isdir(root) else os.path.exists(root)


class FileReading:
    """A file that is being read.

    Attributes:
        sha256: of its bytes, once its parts are asked for.
        lacking: what is said of a part of it that needs the extra, such as an attachment; empty for none.
        failed: all or some of it was left out for what may be due to the machine.
    """

    def __init__(
        self,
        file: SourceFile,
        loader: Loader,
        apart: Iterator[Read] | None,
        here: Iterator[Fetched] | None,
        cutting: Cutting,
    ) -> None:
        self.sha256 = self.lacking = ""
        self.failed = False
        self._file, self._loader, self._apart, self._here = file, loader, apart, here
        self._cutting = cutting
        self._fetched: Fetched | None = None
        self._at = 0

    def parts(self) -> Iterator[Part]:
        """What is in it.

        Raises:
            UnreadableFile: it isn't what its ending says, or can't be read within limits.
            OSError: the file can't be opened or read.
        """
        return self._from_worker(self._apart) if self._apart else self._read_here()

    def done_bytes(self) -> int:
        """How far it was read."""
        return self._at

    def _read_here(self) -> Iterator[Part]:
        name, words, overlap = self._file.name, self._cutting.words, self._cutting.overlap
        with self._path().open("rb") as raw:
            # Hashed before it is read: a write in between makes the next build read it again.
            self.sha256 = hashlib.file_digest(raw, "sha256").hexdigest()
            raw.seek(0)
            if self._loader.kind == "passages":
                yield None, self._followed(read_rows(raw, name), raw)
                return
            with unpacked(raw, name) as stream:
                for document in self._loader.documents(stream, name):
                    yield pack(document, name), passages_of(document, name, words, overlap)

    def _path(self) -> Path:
        """Where the file is on this machine; a second time, where it was the first."""
        if self._fetched is None and self._here is not None:
            self._fetched = next(self._here)
        return Path(self._file.path) if self._fetched is None else self._fetched.path()

    def _followed(self, rows: Iterator[Row], raw: object) -> Iterator[Row]:
        for row in rows:
            self._at = raw.tell()  # type: ignore[attr-defined]
            yield row

    def _from_worker(self, apart: Iterator[Read]) -> Iterator[Part]:
        found = next(apart)
        self.sha256 = found.sha256
        notes = [note for packed, _ in found.documents for note in packed.notes]
        self.failed = any(note.endswith(NEXT_BUILD) for note in (found.reason, *notes))
        if found.not_opened:
            raise OSError(found.number, found.not_opened)
        if found.reason:
            raise UnreadableFile(self._file.name, found.reason, "mend it or leave it out")
        self.lacking = next((note for note in notes if note.endswith(READS_IT)), "")
        yield from cast("Iterable[Part]", found.documents)


class Reading:
    """Reads files; workers are started with the first file that is read apart.

    Args:
        limits: of what reading a file may take.
        cutting: of documents.
        by: who reads documents.
    """

    def __init__(self, limits: Limits | None, cutting: Cutting, by: By = "local") -> None:
        self._limits, self._cutting, self._by = limits, cutting, by
        self._workers: Workers | None = None
        self._fetcher: Fetcher | None = None
        self._ahead: list[Generator[Any]] = []

    def read(
        self, files: Sequence[tuple[int, SourceFile]]
    ) -> Iterator[tuple[tuple[int, SourceFile], FileReading]]:
        """Each file with its reading, whose parts have to be asked for before the next file."""
        loaders = [loader_for(file) for _, file in files]
        is_apart = [self._is_apart(file, loader) for (_, file), loader in zip(files, loaders, strict=True)]
        apart = [file for (_, file), aside in zip(files, is_apart, strict=True) if aside]
        here = [
            file for (_, file), aside in zip(files, is_apart, strict=True)
            if not aside and file.kind != "skipped"
        ]  # fmt: skip
        reads = self._read_apart(apart) if apart else None
        fetched = self._fetching().ahead(here) if any(is_in_store(file.path) for file in here) else None
        self._ahead += [ahead for ahead in (reads, fetched) if ahead is not None]
        for numbered, loader, aside in zip(files, loaders, is_apart, strict=True):
            own = reads if aside else None
            yield numbered, FileReading(numbered[1], loader, own, fetched, self._cutting)

    def close(self) -> None:
        """End the workers, if any, and fetch no more; a cluster is left."""
        for ahead in self._ahead:
            ahead.close()
        if self._workers:
            self._workers.close()
        if self._fetcher:
            self._fetcher.close()

    def _read_apart(self, files: Sequence[SourceFile]) -> Generator[Read]:
        if self._by == "ray":
            from fidkit.passages.load.tasks import read_on_cluster

            return read_on_cluster(files, self._limits, self._cutting)
        from fidkit.passages.load.apart import read_apart  # texts alone need none
        from fidkit.passages.load.workers import Workers

        self._workers = self._workers or Workers(self._limits)
        return read_apart(files, self._workers, self._fetching(), self._cutting)

    def _fetching(self) -> Fetcher:
        from fidkit.passages.load.fetched import Fetcher

        self._fetcher = self._fetcher or Fetcher()
        return self._fetcher

    def _is_apart(self, file: SourceFile, loader: Loader) -> bool:
        return file.kind == "document" and (self._by == "ray" or _is_apart(file, loader))


def _is_apart(file: SourceFile, loader: Loader) -> bool:
    """Packed texts are: nobody knows how large they are."""
    large = file.size > _LARGEST_HERE or file.name.lower().endswith(PACKED)
    return large or loader.read not in _READ_HERE
