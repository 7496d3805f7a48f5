"""Decides what a build has to read: a file is unchanged when its path, size and time are, or its hash is.

Where several files have one time, as files have that were unpacked or deployed together, it doesn't tell them
apart, and neither does their size: names may have been swapped. Then number and time of change in the file
system are asked as well. The file is hashed where both are others. Either alone may change although the
file doesn't: numbers on a share that is mounted again, times of change with rights and backups.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Container, Iterable
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
# After the first failure, the second and so on: a file that fails often costs little, and is never given up,
# since it may have failed because the machine was busy each time.
_NEXT_TRY_NS = tuple(hours * 3600 * 10**9 for hours in (0, 1, 24, 7 * 24))


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
    shared = _several(file.mtime_ns for file in found) | _several(record.mtime_ns for record in records)
    for position, file in enumerate(found):
        record = indexed.pop(file.name, None)
        same = record is not None and _same_stat(file, record, shared)
        if record and record.file not in again and _unchanged(file, record, same, plan.since_ns):
            plan.keep.append((position, file, record))
            if not same or _is_unnoted(file, record):
                plan.moved.append((position, file, record))
            elif position != record.position:
                plan.shifted.append((position, record.file))
            continue
        if following is not None and following.waits_for(file):
            plan.waiting += 1
            if record:
                before = replace(
                    file, size=record.size, mtime_ns=record.mtime_ns, inode=record.inode,
                    changed_ns=record.changed_ns,
                )  # fmt: skip
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


def next_try_ns(record: FileRecord) -> int:
    """From when on a file is tried again that failed, by the clock; 0 for at once, or where none did."""
    waits = _NEXT_TRY_NS[min(record.tries, len(_NEXT_TRY_NS)) - 1] if record.tries else 0
    return record.tried_ns + waits if waits else 0


def tries_after(file: SourceFile, before: FileRecord | None) -> int:
    """How often reading a file has failed, this time included; once it is written to, that counts anew."""
    if before is None or before.size != file.size or before.mtime_ns not in (0, file.mtime_ns):
        return 1
    return before.tries + 1


def _is_unnoted(file: SourceFile, record: FileRecord) -> bool:
    """Whether the file system tells more of a file than was noted, as of a catalogue that was made before."""
    return file.inode != 0 == record.inode


def _several(times: Iterable[int]) -> set[int]:
    """Times that come more than once."""
    return {time for time, count in Counter(times).items() if count > 1}


def _unchanged(file: SourceFile, record: FileRecord, same: bool, now_ns: int) -> bool:
    if file.kind == "skipped":
        return record.kind == "skipped" and record.note == file.note
    # A file that turned out to be none of its kind was read once too, which its hash shows. One that is
    # named is read again: then it is an error.
    was_refused = record.kind == "skipped" and record.sha256 != "" and not file.named
    if record.tries and same and not file.named and not may_be_read_now(record.note):
        # A clock that was set back is no reason to wait any longer.
        return record.tried_ns <= now_ns < next_try_ns(record)
    if may_be_read_now(record.note) or not (record.sha256 or record.kind == "skipped"):
        return False  # all or some of it was left out for what isn't the file's fault
    if record.kind != file.kind and not was_refused:
        return False
    return same or (file.size == record.size and _hash(file) == record.sha256)


def _same_stat(file: SourceFile, record: FileRecord, shared: Container[int]) -> bool:
    if (file.size, file.mtime_ns) != (record.size, record.mtime_ns):
        return False
    if file.mtime_ns in shared and _is_another(file, record):
        return False
    path = str(file.path)
    return path == record.path or shown(path) == record.path


def _is_another(file: SourceFile, record: FileRecord) -> bool:
    known = file.inode != 0 != record.inode
    return known and file.inode != record.inode and file.changed_ns != record.changed_ns


def _hash(file: SourceFile) -> str:
    if isinstance(file.path, ObjectAddress):  # to hash it is to download it, which reading it does too
        return "not asked for"
    try:
        with file.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:  # reading it as a changed file will say what is wrong
        return "unreadable"
