"""Brings a corpus in the database up to date with its sources, reading only files that changed.

Each document is a transaction of its own, so what was read is there at once, for everybody, also where the
build is interrupted. Passage files, whose ids may move from one to another, change together.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Iterable, Iterator
from itertools import chain, islice
from typing import Any

from psycopg import Connection

from fidkit.cluster import By, require
from fidkit.disk import shown
from fidkit.errors import CorpusError
from fidkit.passages.load.address import absolute
from fidkit.passages.load.record import UnreadableFile
from fidkit.passages.load.sources import SourceFile, discover, nothing_usable
from fidkit.passages.local.away import require_sources
from fidkit.passages.local.cuts import NUMBERS, WantedCutting, cut_otherwise
from fidkit.passages.local.layout import real_path, stored_path
from fidkit.passages.local.plan import Plan, make_plan, tries_after, trusted_time
from fidkit.passages.local.reading import FileReading, Part, Reading
from fidkit.passages.local.records import FileRecord
from fidkit.passages.local.report import BuildProgress, BuildReport
from fidkit.passages.postgres.change import Change, NewFile, files_of
from fidkit.passages.postgres.log import Log, State


def build(
    log: Log,
    sources: Iterable[str | os.PathLike[str]],
    progress: Callable[[BuildProgress], None] | None = None,
    *,
    cutting: WantedCutting | None = None,
    vectors: bool | None = None,
    by: By = "local",
    ready: Callable[[], None] = lambda: None,
) -> BuildReport:
    """Make a corpus that of exactly these sources.

    Files that others put there meanwhile stay. What was committed stays if this fails.

    Args:
        log: of the corpus; it is made if there is none.
        sources: folders, documents and passage files.
        progress: called now and then while files are read.
        cutting: how documents are cut from now on.
        vectors: what replicas are to do about vectors from now on (`fidkit.passages.local.build.build`).
        by: who reads documents.
        ready: called once the corpus is there, before anything is put into it.

    Raises:
        UsageError, CorpusError, DataError: as of `fidkit.passages.local.build.build`, or of the database.
    """
    began = time.monotonic()
    require(by)
    roots = [stored_path(absolute(source)) for source in sources]
    wanted = cutting or WantedCutting()
    wanted.after({})
    found = discover(map(real_path, roots))
    state = log.open(make=True)
    ready()
    building = _Build(log, state, roots, progress, wanted, vectors, by)
    try:
        return building.run(found, began)
    finally:
        building.reading.close()


class _Build:
    def __init__(
        self,
        log: Log,
        state: State,
        roots: list[str],
        progress: Callable[[BuildProgress], None] | None,
        wanted: WantedCutting,
        vectors: bool | None,
        by: By,
    ) -> None:
        self._log, self._corpus, self._roots, self._progress = log, state.corpus, roots, progress
        self._facts: dict[str, Any] = dict(state.facts)
        meta = {key: str(self._facts[key]) for key in NUMBERS if key in self._facts}
        meta["next_file"] = str(log.database.run(_next_file))
        self._new_cutting = wanted.facts(meta)
        self.reading = Reading(None, wanted.after(meta), by)
        self._facts |= {"sources": roots} | self._new_cutting
        self._facts |= {} if vectors is None else {"vectors": vectors}
        self._former_facts = state.facts
        self._read_since_ns = 0
        self._formerly: dict[str, FileRecord] = {}
        self._passages = self._done_bytes = self._total_bytes = self._done_files = self._total_files = 0

    def run(self, found: list[SourceFile], began: float) -> BuildReport:
        files = self._log.database.run(lambda connection: files_of(connection, self._corpus))
        meta = {key: str(self._facts[key]) for key in NUMBERS if key in self._facts}
        require_sources([real_path(root) for root in self._roots], found, files)
        plan = make_plan(found, files, cut_otherwise(meta, files))
        self._read_since_ns = plan.since_ns
        self._formerly = {record.name: record for record in plan.remove if record.tries}
        self._total_bytes, self._total_files = plan.bytes_to_read, len(plan.read)
        if self._new_cutting:  # known from now on, so that an interrupted build goes on in the new way
            self._log.write(self._corpus, (), lambda change: None, self._facts)
            self._former_facts = self._facts
        self._read_all(plan)
        self._finish(plan)
        self._refuse_empty()
        read = sum(file.kind != "skipped" for _, file in plan.read)
        return BuildReport(read, len(plan.remove), self._passages, time.monotonic() - began)

    def _read_all(self, plan: Plan) -> None:
        """Documents one by one; passage files together, behind what makes room for their ids."""
        together = [one for one in plan.read if one[1].kind == "passages"]
        former = [record for record in plan.remove if record.kind == "passages"]
        if len(together) + len(former) > 1:
            names = [file.name for _, file in together] + [record.name for record in former]
            self._log.write(self._corpus, names, lambda change: self._put_together(change, together, former))
        else:
            together = []
        alone = [one for one in plan.read if one not in together]
        for (position, file), reading in self.reading.read(alone):
            put = self._putting(position, file, reading)
            self._passages += self._log.write(self._corpus, [file.name], put)
            self._done(file)

    def _put_together(
        self, change: Change, together: list[tuple[int, SourceFile]], former: list[FileRecord]
    ) -> None:
        # Nothing is read before these, and all of them again where the server went away, be it at the commit.
        self._done_bytes = self._done_files = self._passages = 0
        for record in former:
            change.remove(record.name, record.file)
        for (position, file), reading in self.reading.read(together):
            self._passages += self._putting(position, file, reading)(change)
            self._done(file)

    def _putting(self, position: int, file: SourceFile, reading: FileReading) -> Callable[[Change], int]:
        """What puts a file, and may be called again."""
        kept: list[Part] = []

        def parts() -> Iterator[Part]:
            if file.kind == "passages":
                return iter(reading.parts())
            if not kept:  # a worker gives them once
                kept.extend((packed, list(rows)) for packed, rows in reading.parts())
            return iter(kept)

        def put(change: Change) -> int:
            if file.kind == "skipped":
                return change.put(self._new(position, file))
            try:
                read = parts()
                first = list(islice(read, 1))  # once it is there, what is said of the file is known
                new = self._new(position, file, reading)
                return change.put(new, chain(first, read), lambda count: self._tell(reading, count))
            except UnreadableFile as error:
                if file.named:
                    raise
                skipped = self._new(position, file, reading)._replace(kind="skipped", note=error.reason)
                return change.put(skipped)
            except OSError as error:
                raise CorpusError(
                    f"{shown(file.path)}: can't be read ({error.strerror or error}); check the file and run "
                    "the build again, what was committed before is whole"
                ) from error

        return put

    def _new(self, position: int, file: SourceFile, reading: FileReading | None = None) -> NewFile:
        note, sha256 = (reading.lacking, reading.sha256) if reading else (file.note, "")
        time_ns = trusted_time(file, self._read_since_ns)
        tries, tried_ns = 0, 0
        if reading and reading.failed:
            tries, tried_ns = tries_after(file, self._formerly.get(file.name)), time.time_ns()
        return NewFile(
            file.name, shown(file.path), file.kind, note, file.size, time_ns, sha256, position, file.inode,
            file.changed_ns, tries, tried_ns,
        )  # fmt: skip

    def _finish(self, plan: Plan) -> None:
        """Take out what is gone, and note what was found elsewhere or at another time."""
        read = {file.name for _, file in plan.read}
        gone = [record for record in plan.remove if record.name not in read]
        if gone:  # what came after the first look may have been read by somebody else meanwhile
            there = {file.name for file in discover(map(real_path, self._roots))}
            gone = [record for record in gone if record.name not in there]
        looked_at = {record.file for _, _, record in plan.moved}
        moved = [one for one in plan.keep if not _is_same(*one, plan.since_ns, looked_at)]
        facts = self._facts if self._facts != self._former_facts else None
        if not gone and not moved and facts is None:
            return

        def finish(change: Change) -> None:
            for record in gone:
                change.remove(record.name, record.file)
            for position, file, record in moved:
                time_ns = trusted_time(file, plan.since_ns)
                change.move(record.found_at(file, time_ns, position))

        self._log.write(self._corpus, [record.name for record in gone], finish, facts)

    def _refuse_empty(self) -> None:
        if self._log.state().passages == 0:
            files = self._log.database.run(lambda connection: files_of(connection, self._corpus))
            notes = [(record.name, record.note or "empty") for record in files]
            raise CorpusError(nothing_usable(map(real_path, self._roots), notes))

    def _done(self, file: SourceFile) -> None:
        self._done_bytes += file.size
        self._done_files += 1
        self._say(self._done_bytes, 0)

    def _tell(self, reading: FileReading, passages: int) -> None:
        self._say(self._done_bytes + reading.done_bytes(), passages)

    def _say(self, done: int, more: int) -> None:
        if self._progress:
            files = self._done_files, self._total_files
            self._progress(BuildProgress("read", done, self._total_bytes, self._passages + more, *files))


def _is_same(
    position: int, file: SourceFile, record: FileRecord, since_ns: int, looked_at: Container[int]
) -> bool:
    found = position, shown(file.path), file.size, trusted_time(file, since_ns)
    as_before = found == (record.position, record.path, record.size, record.mtime_ns)
    # That the file system numbers it otherwise is no reason to write, since each machine may see its own.
    seen_so = (file.inode, file.changed_ns) == (record.inode, record.changed_ns)
    return as_before and (seen_so or record.file not in looked_at)


def _next_file(connection: Connection) -> int:
    """The least number that a file may get from now on."""
    found = connection.execute("SELECT nextval('fidkit.file_numbers') + 1").fetchone()
    assert found is not None
    return int(found[0])
