"""Builds a corpus, or brings it up to date, reading only files that changed.

A file is unchanged when its path, size and time are, or else when its hash is. Everything happens
beside the state that readers see, which is replaced by one commit at the end (see `layout`).
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from fidkit.disk import shown
from fidkit.errors import CorpusError
from fidkit.passages.load.rows import UnreadableFile, read_rows
from fidkit.passages.load.sources import SourceFile, discover, nothing_usable
from fidkit.passages.local.catalogue import Catalogue, FileRecord, Sum
from fidkit.passages.local.layout import (
    FORMAT_VERSION,
    LEXICAL,
    explained_disk,
    prepare,
    real_path,
    stored_path,
    sweep,
    writer_lock,
)
from fidkit.passages.local.plan import Plan, make_plan, trusted_time
from fidkit.passages.search.lexical import LexicalWriter

_BATCH = 2000
# tantivy counts removed passages in its statistics until segments merge: past this share, write afresh.
_PATCHED_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a build is: bytes of changed source files read, of all there are, and passages so far."""

    stage: str
    done_bytes: int
    total_bytes: int
    passages: int


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did; files and passages that were kept are not counted."""

    files_read: int
    files_removed: int
    passages_read: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def build(
    sources: Iterable[str | os.PathLike[str]],
    directory: Path,
    progress: Callable[[BuildProgress], None] | None = None,
    *,
    wait: float = 0.0,
    waiting: Callable[[], None] | None = None,
) -> BuildReport:
    """Make `directory` the corpus of exactly these sources.

    Raises:
        UsageError: no sources.
        CorpusBusyError: another process is building, still after `wait` seconds.
        CorpusError: a source is missing or holds nothing to read, the disk is full, or the directory
            can't become a corpus. What was there before is intact.
        DataError: a source that is a file isn't what its ending says, or has an id that comes twice. What
            was there before is intact.
    """
    began = time.monotonic()
    roots = [stored_path(os.path.realpath(Path(source).expanduser())) for source in sources]
    found = discover(map(real_path, roots))
    if _is_current(directory, roots, found):
        return BuildReport(0, 0, 0, time.monotonic() - began)
    prepare(directory)
    with writer_lock(directory, wait, waiting) as waited, explained_disk(directory):
        if waited:  # the sources may have changed meanwhile
            found = discover(map(real_path, roots))
        catalogue = Catalogue.for_writing(directory)
        try:
            return _Build(catalogue, directory, roots, progress).run(found, began)
        except BaseException:
            # Ask what was committed: an interruption may have come after that.
            with suppress(sqlite3.Error):
                catalogue.rollback()
                sweep(directory, keep=catalogue.lexical())
            raise
        finally:
            catalogue.close()


def _is_current(directory: Path, roots: list[str], found: list[SourceFile]) -> bool:
    """Whether there is nothing to do, found out without writing or keeping a writer out."""
    try:
        catalogue = Catalogue.for_reading(directory)
    except CorpusError:  # to be created, or refused in so many words
        return False
    try:
        meta, files = catalogue.state()
    finally:
        catalogue.close()
    plan = make_plan(found, files, outdated=_is_outdated(meta))
    changed = plan.read or plan.remove or plan.moved or meta["sources"] != json.dumps(roots)
    return not changed and (directory / meta["lexical"] / "meta.json").exists()


def _is_outdated(meta: dict[str, str]) -> bool:
    """Whether an older version built the corpus, which cut and indexed in another way."""
    return int(meta.get("format_version", FORMAT_VERSION)) < FORMAT_VERSION


class _Build:
    def __init__(
        self,
        catalogue: Catalogue,
        directory: Path,
        roots: list[str],
        progress: Callable[[BuildProgress], None] | None,
    ) -> None:
        self._catalogue = catalogue
        self._directory = directory
        self._roots = roots
        self._progress = progress
        self._meta = catalogue.meta()
        self._next_row = int(self._meta.get("next_row", 1))
        self._next_file = int(self._meta.get("next_file", 1))
        self._read_passages = self._taken_back = 0
        self._done_bytes = self._total_bytes = 0

    def run(self, found: list[SourceFile], began: float) -> BuildReport:
        old = self._meta.get("lexical")
        sweep(self._directory, keep=old)
        usable = old is not None and (self._directory / old / "meta.json").exists()
        plan = make_plan(found, self._catalogue.files(), outdated=_is_outdated(self._meta))
        index = old
        if plan.read or plan.remove or not usable:
            index = self._rewrite(plan, old if usable else None)
        if index != old or plan.moved or self._meta.get("sources") != json.dumps(self._roots):
            with explained_disk(self._directory, plan.bytes_to_read):
                self._commit(plan, str(index))
            sweep(self._directory, keep=index)
        files_read = sum(file.kind != "skipped" for _, file in plan.read)
        return BuildReport(files_read, len(plan.remove), self._read_passages, time.monotonic() - began)

    def _rewrite(self, plan: Plan, old: str | None) -> str:
        """Change the passages in the open transaction and write the index that goes with them."""
        self._total_bytes = plan.bytes_to_read
        generation = int(self._meta.get("generation", 0)) + 1
        patched = int(self._meta.get("removed_since_fresh", 0)) + sum(
            record.passages for record in plan.remove
        )
        kept = sum(record.passages for _, _, record in plan.keep)
        base = old if old is not None and patched <= _PATCHED_SHARE * kept else None
        directory = self._directory / f"{LEXICAL}{generation}"
        writer = LexicalWriter(directory, self._directory / base if base else None)
        try:
            for record in plan.remove:
                self._catalogue.remove(record)
                if base:
                    writer.remove_file(record.file)
            if not base:
                writer.add(self._catalogue.rows())
            with explained_disk(self._directory, plan.bytes_to_read):
                self._read_all(plan.read, writer)
                self._refuse_empty(kept)
                self._tell("index")
                writer.finish()
        except BaseException:
            writer.abandon()
            raise
        removed = (patched if base else 0) + self._taken_back
        self._meta.update(generation=str(generation), removed_since_fresh=str(removed))
        return directory.name

    def _read_all(self, files: list[tuple[int, SourceFile]], writer: LexicalWriter) -> None:
        for position, file in files:
            before = self._done_bytes
            record = self._skipped(position, file)
            if file.kind != "skipped":
                record = self._read(position, file, writer)
            self._catalogue.add_file(record)
            self._next_file += 1
            self._read_passages += record.passages
            self._done_bytes = before + file.size
            self._tell("read")

    def _read(self, position: int, file: SourceFile, writer: LexicalWriter) -> FileRecord:
        first, number = self._next_row, self._next_file
        try:
            with file.path.open("rb") as raw:
                # Hashed before it is read: a write in between makes the next build read it again.
                sha256 = hashlib.file_digest(raw, "sha256").hexdigest()
                raw.seek(0)
                try:
                    total = self._read_rows(raw, file, writer)
                except UnreadableFile as error:
                    if file.named:
                        raise
                    self._take_back(first, writer)
                    return self._skipped(position, file, error.reason, sha256)
        except OSError as error:
            raise CorpusError(
                f"{shown(file.path)}: can't be read ({error.strerror or error}); check the file and run the "
                "build again, the corpus is as it was before"
            ) from error
        return FileRecord(
            number, file.name, shown(file.path), file.kind, "", file.size,
            trusted_time(file), sha256, position, first, self._next_row - first, total.digest(),
        )  # fmt: skip

    def _read_rows(self, raw: BinaryIO, file: SourceFile, writer: LexicalWriter) -> Sum:
        total, first, number, before = Sum(), self._next_row, self._next_file, self._done_bytes
        rows = read_rows(raw, file.name)
        while batch := list(islice(rows, _BATCH)):
            self._catalogue.add_passages(self._next_row, number, file.name, batch)
            writer.add((self._next_row + at, number, row.title, row.text) for at, row in enumerate(batch))
            for row in batch:
                total.add(row)
            self._next_row += len(batch)
            self._done_bytes = before + raw.tell()
            self._tell("read", self._next_row - first)
        return total

    def _take_back(self, first_row: int, writer: LexicalWriter) -> None:
        """Forget what was read of a file that turned out, further down, to be none for this corpus."""
        self._taken_back += self._catalogue.forget_from(first_row)
        writer.remove_file(self._next_file)
        self._next_row = first_row

    def _skipped(self, position: int, file: SourceFile, note: str = "", sha256: str = "") -> FileRecord:
        return FileRecord(
            self._next_file, file.name, shown(file.path), "skipped", note or file.note, file.size,
            trusted_time(file), sha256, position, self._next_row, 0, Sum().digest(),
        )  # fmt: skip

    def _refuse_empty(self, kept: int) -> None:
        if kept + self._read_passages == 0:
            notes = [(record.name, record.note or "empty") for record in self._catalogue.files()]
            raise CorpusError(nothing_usable(map(real_path, self._roots), notes))

    def _commit(self, plan: Plan, index: str) -> None:
        for position, file, record in plan.keep:
            self._catalogue.restat(record, file, trusted_time(file), position)
        files = self._catalogue.files()
        total = Sum()
        for record in files:
            total.join(record.sum)
        self._meta |= {
            "format_version": str(FORMAT_VERSION),
            "lexical": index,
            "sources": json.dumps(self._roots),
            "passages": str(sum(record.passages for record in files)),
            "fingerprint": total.digest().hex(),
            "next_row": str(self._next_row),
            "next_file": str(self._next_file),
        }
        self._catalogue.commit(self._meta)

    def _tell(self, stage: str, more: int = 0) -> None:
        if self._progress:
            self._progress(
                BuildProgress(stage, self._done_bytes, self._total_bytes, self._read_passages + more)
            )
