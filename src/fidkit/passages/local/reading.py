"""What a build reads: files in their order, texts here and everything else in workers, some of it ahead."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fidkit.passages.load.cutting import Cutting
from fidkit.passages.load.extras import READS_IT
from fidkit.passages.load.packed import Packed, pack
from fidkit.passages.load.record import Row, UnreadableFile
from fidkit.passages.load.rows import passages_of, read_rows, unpacked
from fidkit.passages.load.sources import SourceFile
from fidkit.passages.load.table import NAMED, PACKED, Loader, loader_of
from fidkit.passages.local.away import mounts_below

if TYPE_CHECKING:
    from fidkit.passages.load.workers import Job, Limits, Read, Workers

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


_GONE = {errno.ENOENT: "it was deleted or moved meanwhile", errno.EACCES: "permission denied"}


def gone(error: OSError, roots: Sequence[str], mounts: Sequence[str] = ()) -> str:
    """What is said of a file that was found and can't be opened any more; empty where reading has to end.

    Args:
        error: that opening it led to.
        roots: the sources. One that isn't there, or is an empty folder, may be a share that was lost; what it
            held isn't to be forgotten then.
        mounts: where file systems were mounted in the sources when the build began (`away.mounts_below`).
    """
    try:
        there = set(mounts) <= set(mounts_below(roots))
        there = there and all(
            os.listdir(root) if os.path.isdir(root) else os.path.exists(root) for root in roots
        )
    except OSError:
        there = False
    return _GONE.get(error.errno or 0, "") if there else ""


class FileReading:
    """A file that is being read.

    Attributes:
        sha256: of its bytes, once its parts are asked for.
        lacking: what is said of a part of it that needs the extra, such as an attachment; empty for none.
    """

    def __init__(
        self, file: SourceFile, loader: Loader, apart: Iterator[Read] | None, cutting: Cutting
    ) -> None:
        self.sha256 = self.lacking = ""
        self._file, self._loader, self._apart, self._cutting = file, loader, apart, cutting
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
        with self._file.path.open("rb") as raw:
            # Hashed before it is read: a write in between makes the next build read it again.
            self.sha256 = hashlib.file_digest(raw, "sha256").hexdigest()
            raw.seek(0)
            if self._loader.kind == "passages":
                yield None, self._followed(read_rows(raw, name), raw)
                return
            with unpacked(raw, name) as stream:
                for document in self._loader.documents(stream, name):
                    yield pack(document, name), passages_of(document, name, words, overlap)

    def _followed(self, rows: Iterator[Row], raw: object) -> Iterator[Row]:
        for row in rows:
            self._at = raw.tell()  # type: ignore[attr-defined]
            yield row

    def _from_worker(self, apart: Iterator[Read]) -> Iterator[Part]:
        found = next(apart)
        self.sha256 = found.sha256
        if found.not_opened:
            raise OSError(found.number, found.not_opened)
        if found.reason:
            raise UnreadableFile(self._file.name, found.reason, "mend it or leave it out")
        notes = (note for packed, _ in found.documents for note in packed.notes)
        self.lacking = next((note for note in notes if note.endswith(READS_IT)), "")
        yield from cast("Iterable[Part]", found.documents)


class Reading:
    """Reads files; workers are started with the first file that is read apart."""

    def __init__(self, limits: Limits | None, cutting: Cutting) -> None:
        self._limits, self._cutting = limits, cutting
        self._workers: Workers | None = None

    def read(
        self, files: Sequence[tuple[int, SourceFile]]
    ) -> Iterator[tuple[tuple[int, SourceFile], FileReading]]:
        """Each file with its reading, whose parts have to be asked for before the next file."""
        loaders = [_loader_of(file) for _, file in files]
        jobs = [
            (file.path, file.name, loader.read, file.size)
            for (_, file), loader in zip(files, loaders, strict=True)
            if _is_apart(file, loader)
        ]
        apart = self._start(jobs) if jobs else None
        for numbered, loader in zip(files, loaders, strict=True):
            file = numbered[1]
            own = apart if _is_apart(file, loader) else None
            yield numbered, FileReading(file, loader, own, self._cutting)

    def close(self) -> None:
        """End the workers, if any."""
        if self._workers:
            self._workers.close()

    def _start(self, jobs: Sequence[tuple[Path, str, str, int]]) -> Iterator[Read]:
        from fidkit.passages.load.workers import Job, Workers  # texts alone need none

        self._workers = Workers(self._limits)
        made: Iterator[Job] = (Job(*job, self._cutting) for job in jobs)
        return self._workers.read(made)


def _loader_of(file: SourceFile) -> Loader:
    return loader_of(file.name, None if file.kind == "skipped" else file.kind) or NAMED


def _is_apart(file: SourceFile, loader: Loader) -> bool:
    """Packed texts are: nobody knows how large they are."""
    large = file.size > _LARGEST_HERE or file.name.lower().endswith(PACKED)
    return file.kind == "document" and (large or loader.read not in _READ_HERE)
