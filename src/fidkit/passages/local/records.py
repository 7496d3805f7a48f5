"""What a catalogue knows of files and documents, and the fingerprint of their passages."""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

from fidkit.disk import shown
from fidkit.passages.load.found import SourceFile
from fidkit.passages.load.record import Row

_SUM_BYTES = 16
_MOST = (1 << 62) - 1  # two such numbers fit into 64 bits


class FileRecord(NamedTuple):
    """A file as indexed; `sum` adds up the fingerprints of its passages.

    `inode` and `changed_ns` are 0 where they weren't noted, or are none (`fidkit.passages.load.found`).
    `tries` is how often reading it, as it is now, failed for what may be due to the machine, and `tried_ns`
    when it last did.
    """

    file: int
    name: str
    path: str
    kind: str
    note: str
    size: int
    mtime_ns: int
    sha256: str
    position: int
    first_row: int
    passages: int
    sum: bytes
    inode: int = 0
    changed_ns: int = 0
    tries: int = 0
    tried_ns: int = 0

    def found_at(self, file: SourceFile, mtime_ns: int, position: int) -> FileRecord:
        """The same, where it was found this time, with the time to be noted."""
        return self._replace(
            path=shown(file.path), size=file.size, mtime_ns=mtime_ns, position=position, inode=file.inode,
            changed_ns=file.changed_ns,
        )  # fmt: skip


class DocumentRecord(NamedTuple):
    """A document without what is long.

    Attributes:
        document: its number.
        source: what it is called, and `member` the part of it within its file.
        title, facts, notes: as of `fidkit.passages.load.document.Document`.
        path, sha256: of its file, as it was read.
    """

    document: int
    source: str
    member: str
    title: str
    facts: dict[str, str]
    notes: tuple[str, ...]
    path: str
    sha256: str


class InFile(NamedTuple):
    """A document beside what is known of its file.

    Attributes:
        file, name, path, mtime_ns, first_row, passages: of the file, as of `FileRecord`.
        document: its number; None for the whole of a passage file.
        member: which document of the file it is.
        facts: what it says of itself, by names in lower case.
    """

    file: int
    name: str
    path: str
    mtime_ns: int
    first_row: int
    passages: int
    document: int | None
    member: str
    facts: dict[str, str]


class Sum:
    """Fingerprint of a set of passages: hashes added modulo 2 ** 128, so order does not matter."""

    def __init__(self) -> None:
        self._value = 0

    def add(self, row: Row) -> None:
        content = json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")
        self.join(hashlib.blake2b(content, digest_size=_SUM_BYTES).digest())

    def join(self, other: bytes) -> None:
        self._value = (self._value + int.from_bytes(other, "little")) % (1 << 8 * _SUM_BYTES)

    def digest(self) -> bytes:
        return self._value.to_bytes(_SUM_BYTES, "little")


def is_possible(record: FileRecord) -> bool:
    """Whether a record that was read can be one that was written."""
    # One by one, since a corpus of 100,000 files waits for this: generators would take four times as long.
    file, name, path, kind, note, size, mtime_ns, sha256, position, first_row, passages, total, *rest = record
    inode, changed_ns, tries, tried_ns = rest
    return (
        type(file)
        is type(size)
        is type(mtime_ns)
        is type(position)
        is type(first_row)
        is type(passages)
        is type(inode)
        is type(changed_ns)
        is type(tries)
        is type(tried_ns)
        is int
        # A time is negative before 1970.
        and min(file, size, position, first_row, passages, inode, tries) >= 0
        and max(file, size, position, first_row, passages, inode, tries) <= _MOST
        and type(name) is type(path) is type(kind) is type(note) is type(sha256) is str
        and type(total) is bytes
    )
