"""Changes the passages of a corpus and writes the index that goes with them.

Everything happens beside the state that readers see, which is replaced by one commit (see `layout`). What
takes long is committed now and then: each time a whole state, of files as they were before or as they are
now.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fidkit.cluster import By
from fidkit.disk import shown
from fidkit.errors import CorpusError
from fidkit.passages.load.record import UnreadableFile
from fidkit.passages.load.sources import SourceFile, nothing_usable
from fidkit.passages.local.away import mounts_below, mounts_of, require_sources, stored_mounts
from fidkit.passages.local.catalogue import Catalogue
from fidkit.passages.local.cuts import WantedCutting, cut_otherwise, is_read_otherwise
from fidkit.passages.local.layout import (
    FORMAT_VERSION,
    LEXICAL,
    explained_disk,
    real_path,
    sweep,
)
from fidkit.passages.local.plan import Plan, make_plan, tries_after, trusted_time
from fidkit.passages.local.reading import FileReading, Reading, gone
from fidkit.passages.local.records import FileRecord, Sum
from fidkit.passages.local.report import BuildProgress, BuildReport
from fidkit.passages.local.schema import sources_of
from fidkit.passages.local.vectors import Wanted, keep_begun
from fidkit.passages.search.lexical import LexicalWriter

if TYPE_CHECKING:
    from fidkit.passages.load.workers import Limits
    from fidkit.passages.local.following import Following

_BATCH = 2000
# tantivy counts removed passages in its statistics until segments merge: past this share, write afresh.
_PATCHED_SHARE = 0.2
_COMMIT_SECONDS = 10.0
# The more files there are, the longer a commit takes: so many times that passes before the next.
_COMMIT_SHARE = 10

_log = logging.getLogger(__name__)


class Builder:
    """One build, in the open transaction of a catalogue and with the writer's lock."""

    def __init__(
        self,
        catalogue: Catalogue,
        directory: Path,
        roots: list[str],
        progress: Callable[[BuildProgress], None] | None,
        limits: Limits | None,
        wanted: Wanted,
        cuts: WantedCutting,
        by: By = "local",
    ) -> None:
        self._wanted = wanted
        self._catalogue = catalogue
        self._directory = directory
        self._roots = roots
        self._places = list(map(real_path, roots))
        self._mounts = mounts_below(self._places)
        self._progress = progress
        self._meta = catalogue.meta()
        self._former_roots = list[str]()
        with suppress(CorpusError):  # a catalogue that doesn't say: it was damaged, or is new
            self._former_roots = sources_of(self._meta, directory)
        self._new_cutting = cuts.facts(self._meta)
        self.reading = Reading(limits, cuts.after(self._meta), by)
        self._next_row = int(self._meta.get("next_row", 1))
        self._next_file = int(self._meta.get("next_file", 1))
        self._next_document = int(self._meta.get("next_document", 1))
        self._read_passages = self._taken_back = 0
        self._done_bytes = self._total_bytes = 0
        self._done_files = self._total_files = self._kept_files = 0
        self._unreadable: list[str] = []
        self._read_since_ns = 0

    def run(
        self,
        found: list[SourceFile],
        began: float,
        again: Collection[int] | None,
        following: Following | None,
        plan: Plan | None = None,
    ) -> BuildReport:
        """Make the corpus that of the files found.

        Args:
            found: in the sources.
            began: when, by `time.monotonic`.
            again: numbers of files to be read again although they didn't change.
            following: what to wait for.
            plan: what there is to do, where it is known already.
        """
        old = self._meta.get("lexical")
        keep_begun(self._directory, self._meta)
        usable = old is not None and (self._directory / old / "meta.json").exists() and again is None
        if again is not None:
            self._catalogue.remove_others()
        if self._new_cutting and old is not None:
            why = "documents are read" if is_read_otherwise(self._meta) else "passages are cut"
            _log.info("%s in another way from now on: all documents are read again", why)
        self._meta |= self._new_cutting
        if plan is None:
            files = self._catalogue.files()
            require_sources(self._places, found, files, mounts_of(self._meta))
            others = cut_otherwise(self._meta, files) | frozenset(again or ())
            plan = make_plan(found, files, others, following)
        self._read_since_ns = plan.since_ns
        index = old
        if usable and not _touches_passages(plan):
            self._note_skipped(plan)
        else:
            index = self._rewrite(plan, old if usable else None)
        if index == old and not self._wanted.is_met(self._directory, self._meta):
            index = self._only_vectors(str(old))
        meta = {"sources": json.dumps(self._roots), "mounts": stored_mounts(self._mounts), "unread": "0"}
        changed = index != old or plan.changes_files() or self._new_cutting
        if changed or meta.items() - self._meta.items():
            with explained_disk(self._directory, plan.bytes_to_read):
                self._commit(plan, str(index))
            sweep(self._directory, keep=self._catalogue.names())
        files_read = sum(file.kind != "skipped" for _, file in plan.read)
        return BuildReport(
            files_read, len(plan.remove), self._read_passages, time.monotonic() - began,
            len(plan.read) - files_read + len(self._unreadable), plan.waiting,
            plan.changes(frozenset(self._unreadable)), self._dropped(),
        )  # fmt: skip

    def _dropped(self) -> tuple[str, ...]:
        """Sources of the state before that are none now."""
        return tuple(shown(source) for source in self._former_roots if source not in self._roots)

    def _note_skipped(self, plan: Plan) -> None:
        """Files that are left out come and go without a new index."""
        for record in plan.remove:
            self._catalogue.remove(record)
        for position, file in plan.read:
            self._catalogue.add_file(self._skipped(position, file))
            self._next_file += 1

    def _only_vectors(self, old: str) -> str:
        """Make or leave out vectors, beside words that stay as they are under a new name."""
        self._writer = self._next_writer(old)
        try:
            with explained_disk(self._directory):
                self._finish_index(last=True)
        except BaseException:
            self._writer.abandon()
            raise
        return self._writer.name

    def reindex(self) -> None:
        """Write an index of what the catalogue holds, and commit it."""
        keep_begun(self._directory, self._meta)
        self._writer = self._next_writer(None)
        self._meta["removed_since_fresh"] = "0"
        try:
            self._tell("index")
            self._writer.add(self._catalogue.rows())
            self._finish_index(last=True)
        except BaseException:
            self._writer.abandon()
            raise
        self._commit(Plan(), self._writer.name, int(self._meta.get("unread", 0)))

    def say_kept(self) -> None:
        """What an interrupted build leaves to the next."""
        if self._kept_files:
            _log.info(
                "%s of %s files were read and are kept; the same command goes on from there",
                f"{self._kept_files:,}", f"{self._total_files:,}",
            )  # fmt: skip

    def _rewrite(self, plan: Plan, old: str | None) -> str:
        """Change the passages in the open transaction and write the index that goes with them."""
        self._total_bytes, self._total_files = plan.bytes_to_read, len(plan.read)
        patched = int(self._meta.get("removed_since_fresh", 0)) + sum(
            record.passages for record in plan.remove
        )
        kept = sum(record.passages for _, _, record in plan.keep)
        base = old if old is not None and patched <= _PATCHED_SHARE * kept else None
        replaced = _replaced(plan) if base else {}
        self._writer = self._next_writer(base)
        self._meta["removed_since_fresh"] = str(patched if base else 0)
        try:
            for record in plan.remove:
                if record.name not in replaced:
                    self._catalogue.remove(record)
                    if base:
                        self._writer.remove_file(record.file)
            if not base:
                self._writer.add(self._catalogue.rows())
            with explained_disk(self._directory, plan.bytes_to_read):
                self._read_all(plan, replaced)
                self._refuse_empty(kept)
                self._tell("index")
                # First vectors take long: until they are made, what was read is found by words.
                if self._wanted.begin_late(self._meta, self._catalogue.count("passages")):
                    self._commit_so_far(plan)
                self._finish_index(last=True)
        except BaseException:
            self._writer.abandon()
            raise
        return self._writer.name

    def _next_writer(self, base: str | None) -> LexicalWriter:
        """For the next generation of the index."""
        generation = int(self._meta.get("generation", 0)) + 1
        self._meta["generation"] = str(generation)
        return LexicalWriter(
            self._directory / f"{LEXICAL}{generation}", self._directory / base if base else None
        )

    def _finish_index(self, *, last: bool = False) -> None:
        """Write out words, and vectors of the same passages; `last` if there is no more to read."""
        self._writer.finish()
        self._meta["vectors"] = self._wanted.name_after(
            self._catalogue, self._meta, self._directory, lambda: self._tell("vectors"), last=last
        )
        removed = int(self._meta["removed_since_fresh"]) + self._taken_back
        self._meta["removed_since_fresh"], self._taken_back = str(removed), 0

    def _read_all(self, plan: Plan, replaced: dict[str, FileRecord]) -> None:
        """Read files and commit now and then; what was read last isn't committed yet."""
        due = time.monotonic() + _COMMIT_SECONDS
        formerly = {record.name: record for record in plan.remove if record.tries}
        for (position, file), reading in self.reading.read(plan.read):
            before = self._done_bytes
            if (former := replaced.get(file.name)) is not None:
                self._catalogue.remove(former)
                self._writer.remove_file(former.file)
            record = self._skipped(position, file)
            if file.kind != "skipped":
                record = self._read(position, file, reading, formerly.get(file.name))
            self._catalogue.add_file(record)
            self._next_file += 1
            self._read_passages += record.passages
            self._done_bytes = before + file.size
            self._done_files += 1
            self._tell("read")
            if time.monotonic() >= due and self._read_passages and self._done_files < self._total_files:
                began = time.monotonic()
                self._commit_so_far(plan)
                took = time.monotonic() - began
                due = time.monotonic() + max(_COMMIT_SECONDS, _COMMIT_SHARE * took)

    def _commit_so_far(self, plan: Plan) -> None:
        """Make what was read visible, and go on in the next generation."""
        self._finish_index()
        self._commit(plan, self._writer.name, self._total_files - self._done_files)
        self._kept_files = self._done_files
        sweep(self._directory, keep=self._catalogue.names())
        self._catalogue.begin()
        self._writer = self._next_writer(self._writer.name)

    def _read(
        self, position: int, file: SourceFile, reading: FileReading, former: FileRecord | None
    ) -> FileRecord:
        first, number = self._next_row, self._next_file
        try:
            try:
                total = self._store(file, reading)
            except UnreadableFile as error:
                if file.named:
                    raise
                left_out = self._left_out(position, file, first, error.reason, reading.sha256)
                return self._tried(left_out, file, former) if reading.failed else left_out
        except OSError as error:
            mounts = [*self._mounts, *mounts_of(self._meta)]
            if not file.named and (note := gone(error, self._places, mounts)):
                return self._left_out(position, file, first, note)
            raise CorpusError(
                f"{shown(file.path)}: can't be read ({error.strerror or error}); check the file and run the "
                "build again, what was committed before is whole"
            ) from error
        time_ns = trusted_time(file, self._read_since_ns)
        record = FileRecord(
            number, file.name, shown(file.path), file.kind, reading.lacking, file.size, time_ns,
            reading.sha256, position, first, self._next_row - first, total.digest(), file.inode,
            file.changed_ns,
        )  # fmt: skip
        return self._tried(record, file, former) if reading.failed else record

    def _tried(self, record: FileRecord, file: SourceFile, former: FileRecord | None) -> FileRecord:
        """Note that reading a file, all of it or a part, failed for what may be due to the machine."""
        return record._replace(tries=tries_after(file, former), tried_ns=time.time_ns())

    def _store(self, file: SourceFile, reading: FileReading) -> Sum:
        total, first, number, before = Sum(), self._next_row, self._next_file, self._done_bytes
        for packed, passages in reading.parts():
            document = None
            if packed is not None:
                document = self._next_document
                self._next_document += 1
                self._catalogue.add_document(document, number, packed)
            rows = iter(passages)
            while batch := list(islice(rows, _BATCH)):
                self._catalogue.add_passages(self._next_row, number, file.name, batch, document)
                self._writer.add(
                    (self._next_row + at, number, row.title, row.text) for at, row in enumerate(batch)
                )
                for row in batch:
                    total.add(row)
                self._next_row += len(batch)
                self._done_bytes = before + reading.done_bytes()
                self._tell("read", self._next_row - first)
        return total

    def _left_out(
        self, position: int, file: SourceFile, first_row: int, note: str, sha256: str = ""
    ) -> FileRecord:
        """Forget what was read of a file that turned out, further down, to be none for this corpus."""
        self._taken_back += self._catalogue.forget_from(first_row, self._next_file)
        self._writer.remove_file(self._next_file)
        self._next_row = first_row
        self._unreadable.append(file.name)
        return self._skipped(position, file, note, sha256)

    def _skipped(self, position: int, file: SourceFile, note: str = "", sha256: str = "") -> FileRecord:
        return FileRecord(
            self._next_file, file.name, shown(file.path), "skipped", note or file.note, file.size,
            trusted_time(file, self._read_since_ns), sha256, position, self._next_row, 0, Sum().digest(),
            file.inode, file.changed_ns,
        )  # fmt: skip

    def _refuse_empty(self, kept: int) -> None:
        if kept + self._read_passages == 0:
            said = {found.source: found.notes[0] for found in self._catalogue.documents_with_notes()}
            notes = [
                (record.name, record.note or said.get(record.name, "empty"))
                for record in self._catalogue.files()
            ]
            raise CorpusError(nothing_usable(self._places, notes))

    def _commit(self, plan: Plan, index: str, unread: int = 0) -> None:
        """Name the index and all that is known of the corpus; `unread` files are still to be read."""
        for position, file, record in plan.moved:
            self._catalogue.move(record.found_at(file, trusted_time(file, plan.since_ns), position))
        self._catalogue.shift(plan.shifted)
        total, passages = Sum(), 0
        for of_file, count in self._catalogue.sums():
            total.join(of_file)
            passages += count
        self._meta |= {
            "format_version": str(FORMAT_VERSION),
            "lexical": index,
            "sources": json.dumps(self._roots),
            "mounts": stored_mounts(self._mounts),
            "passages": str(passages),
            "fingerprint": total.digest().hex(),
            "next_row": str(self._next_row),
            "next_file": str(self._next_file),
            "next_document": str(self._next_document),
            "unread": str(unread),
        }
        self._catalogue.commit(self._meta)

    def _tell(self, stage: str, more: int = 0) -> None:
        if self._progress:
            done, passages = self._done_bytes, self._read_passages + more
            files = self._done_files, self._total_files
            self._progress(BuildProgress(stage, done, self._total_bytes, passages, *files))


def _touches_passages(plan: Plan) -> bool:
    """Whether anything that holds passages, or might, comes or goes."""
    comes = any(file.kind != "skipped" for _, file in plan.read)
    return comes or any(record.kind != "skipped" or record.passages for record in plan.remove)


def _replaced(plan: Plan) -> dict[str, FileRecord]:
    """Documents that will be read again, by name: each stays until it is.

    Their ids are made of their names. Those of passage files may move from one file to another.
    """
    read = {file.name for _, file in plan.read if file.kind == "document"}
    former = [record for record in plan.remove if record.kind == "document"]
    return {record.name: record for record in former if record.name in read}
