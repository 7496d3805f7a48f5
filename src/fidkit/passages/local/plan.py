"""Decides what a build has to read: a file is unchanged when its path, size and time are, or its hash is."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Container
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fidkit.disk import shown
from fidkit.passages.load.address import ObjectAddress
from fidkit.passages.load.extras import may_be_read_now
from fidkit.passages.load.record import TAKEN
from fidkit.passages.load.sources import SourceFile
from fidkit.passages.local.records import FileRecord
from fidkit.passages.local.report import Changes

if TYPE_CHECKING:
    from fidkit.passages.local.following import Following

# A file written this recently may be written again without its time changing.
_TRUST_AFTER_NS = 2_000_000_000


@dataclass(slots=True)
class Plan:
    """`remove` goes, `read` comes, `keep` changes its place in the order at most.

    Positions count the files of the sources in their order. Those of `keep` that were found elsewhere, or
    with another time, are `moved`; `shifted` are new positions of files that are otherwise as they were, with
    their numbers. `waiting` files are being written just now, and stay as they were. `since_ns` is when the
    files began to be compared, by the clock: none was read for this plan before.
    """

    read: list[tuple[int, SourceFile]] = field(default_factory=list)
    keep: list[tuple[int, SourceFile, FileRecord]] = field(default_factory=list)
    moved: list[tuple[int, SourceFile, FileRecord]] = field(default_factory=list)
    shifted: list[tuple[int, int]] = field(default_factory=list)
    remove: list[FileRecord] = field(default_factory=list)
    waiting: int = 0
    since_ns: int = field(default_factory=time.time_ns)

    def changes_files(self) -> bool:
        """Whether the catalogue has to note something of the files."""
        return bool(self.read or self.remove or self.moved or self.shifted)

    @property
    def bytes_to_read(self) -> int:
        return sum(file.size for _, file in self.read)

    def changes(self, unreadable: Container[str]) -> Changes:
        """What comes and goes, where files of these names turned out to be unreadable."""
        former = {record.name: record for record in self.remove}
        changes: dict[str, list[str]] = {"added": [], "changed": [], "left_out": []}
        for _, file in self.read:
            before = former.pop(file.name, None)
            is_new = before is None or before.kind == "skipped"
            is_left_out = file.kind == "skipped" or file.name in unreadable
            changes["left_out" if is_left_out else "added" if is_new else "changed"].append(file.name)
        return Changes(**{name: tuple(names) for name, names in changes.items()}, removed=tuple(former))


def make_plan(
    found: list[SourceFile],
    records: list[FileRecord],
    again: Container[int] = frozenset(),
    following: Following | None = None,
) -> Plan:
    """Compare the files found with those indexed.

    Args:
        found: in the sources, in their order.
        records: of the files that the catalogue holds.
        again: numbers of files to be read again although they didn't change.
        following: what to wait for, where sources are followed.
    """
    if following is not None:
        following.found(found)
    plan = Plan()
    indexed = {record.name: record for record in records}
    for position, file in enumerate(found):
        record = indexed.pop(file.name, None)
        same = record is not None and _same_stat(file, record)
        if record and record.file not in again and _unchanged(file, record, same):
            plan.keep.append((position, file, record))
            if not same:
                plan.moved.append((position, file, record))
            elif position != record.position:
                plan.shifted.append((position, record.file))
            continue
        if following is not None and following.waits_for(file):
            plan.waiting += 1
            if record:
                before = replace(file, size=record.size, mtime_ns=record.mtime_ns)
                plan.keep.append((position, before, record))
                if position != record.position:
                    plan.moved.append((position, before, record))
            continue
        plan.read.append((position, file))
        if record:
            plan.remove.append(record)
    plan.remove += indexed.values()
    if plan.read or plan.remove:
        _read_taken(plan)
    return plan


def _read_taken(plan: Plan) -> None:
    """Look again at files that were left out for ids of passages that may be gone by now."""
    taken = [kept for kept in plan.keep if kept[2].note.startswith(TAKEN)]
    if not taken:
        return
    plan.keep = [kept for kept in plan.keep if kept not in taken]
    plan.moved = [kept for kept in plan.moved if kept not in taken]
    plan.read = sorted([*plan.read, *((position, file) for position, file, _ in taken)], key=_position)
    plan.remove += [record for _, _, record in taken]


def _position(one: tuple[int, SourceFile]) -> int:
    return one[0]


def trusted_time(file: SourceFile, read_since_ns: int) -> int:
    """The modification time to note: 0, equal to none, for a file that may have changed within its tick.

    Args:
        file: as it was found.
        read_since_ns: a time by the clock before which it wasn't read. What counts is how old the file was
            when it was read: noting it may come much later, and the file be another by then.
    """
    if isinstance(file.path, ObjectAddress):  # that of an object changes with its content
        return file.mtime_ns
    return file.mtime_ns if file.mtime_ns < read_since_ns - _TRUST_AFTER_NS else 0


def _unchanged(file: SourceFile, record: FileRecord, same: bool) -> bool:
    if file.kind == "skipped":
        return record.kind == "skipped" and record.note == file.note
    # A file that turned out to be none of its kind was read once too, which its hash shows. One that is
    # named is read again: then it is an error.
    was_refused = record.kind == "skipped" and record.sha256 != "" and not file.named
    if may_be_read_now(record.note) or not (record.sha256 or record.kind == "skipped"):
        return False  # all or some of it was left out for what isn't the file's fault
    if record.kind != file.kind and not was_refused:
        return False
    return same or (file.size == record.size and _hash(file) == record.sha256)


def _same_stat(file: SourceFile, record: FileRecord) -> bool:
    if (file.size, file.mtime_ns) != (record.size, record.mtime_ns):
        return False
    path = str(file.path)
    return path == record.path or shown(path) == record.path


def _hash(file: SourceFile) -> str:
    if isinstance(file.path, ObjectAddress):  # to hash it is to download it, which reading it does too
        return "not asked for"
    try:
        with file.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:  # reading it as a changed file will say what is wrong
        return "unreadable"
