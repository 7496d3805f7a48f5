"""Documents that lie in others: attachments of a mail, files of an archive."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from fidkit.passages.load.document import Document
from fidkit.passages.load.package import Allowance, Counted, Member, reading, unpacked
from fidkit.passages.load.record import UnreadableFile
from fidkit.passages.load.table import reader_apart

DEEPEST = 4
"""How many files a document may lie in: a text in an archive in a mail lies in two."""

NAMED = 10
"""Names that a note lists; of the rest, it says how many there are."""

Read = Callable[[BinaryIO, str], Iterator[Document]]
ReaderOf = Callable[[str], Read | None]
"""What reads documents of a name's ending; None where nothing does."""

_PACKED = ".gz"


def reader_of(name: str) -> Read | None:
    """What a folder's documents of this name are read by; None for passage files and what nothing reads."""
    loader = reader_apart(name, "document")
    return loader.documents if loader and loader.kind == "document" else None


@dataclass(frozen=True, slots=True)
class Watch:
    """Who reads a file that others lie in, for the sake of a member that may end the process.

    Attributes:
        begun: told the path of the member that is read from now on; empty where none is.
        passed: members that are passed over, by path, and why.
    """

    begun: Callable[[str], None] = lambda path: None
    passed: Mapping[str, str] = field(default_factory=dict)


_watch: ContextVar[Watch] = ContextVar("watch", default=Watch())  # noqa: B039 - nothing in it changes


@contextmanager
def watched(by: Watch) -> Iterator[None]:
    """Within the block, members are read under this watch."""
    before = _watch.set(by)
    try:
        yield
    finally:
        _watch.reset(before)


class Members:
    """What lies in a file: read one by one, under names that are unique, with what couldn't be read noted."""

    def __init__(self, stream: BinaryIO, reader_of: ReaderOf) -> None:
        """Begin.

        Args:
            stream: of the file that they lie in; says how deep that lies itself.
            reader_of: what reads members.
        """
        self.allowance = Allowance.of(stream)
        self._depth, self._within = 1, ""
        if isinstance(stream, Member):
            self._depth, self._within = stream.depth + 1, stream.path
        self._reader_of = reader_of
        self._taken: set[str] = set()
        self._faults: list[str] = []
        self._others: list[str] = []

    def reader_of(self, member: str) -> Read | None:
        """What reads a member; None, and a note, where nothing does."""
        read = self._reader_of(member[: -len(_PACKED)] if member.lower().endswith(_PACKED) else member)
        if read is None:
            self._others.append(member)
        return read

    def documents(self, member: str, read: Read, data: Callable[[], bytes]) -> Iterator[Document]:
        """Documents of a member; those that it holds itself have its name before theirs.

        Args:
            member: its name.
            read: what reads it.
            data: unpacks it.
        """
        name = self._unique(member)
        if self._depth > DEEPEST:
            self._faults.append(f"{name} is left out: it lies in more than {DEEPEST} files")
            return
        path, watch = f"{self._within}/{name}" if self._within else name, _watch.get()
        if path in watch.passed:
            self.fault(name, watch.passed[path])
            return
        watch.begun(path)
        try:
            with reading(name, "a whole file"):
                stream = Member(self._unpacked(name, data()), self.allowance, self._depth, path)
            documents = read(stream, name.removesuffix(_PACKED))
            while True:
                # Whatever a reader fails with is that member's fault alone.
                with reading(name, "a file that can be read"):
                    document = next(documents, None)
                if document is None:
                    watch.begun(self._within)
                    return
                yield replace(document, member=f"{name}/{document.member}" if document.member else name)
        except UnreadableFile as error:
            self.fault(name, error.reason)
            watch.begun(self._within)

    def fault(self, member: str, reason: str) -> None:
        """Note that a member can't be read."""
        self._faults.append(f"{member} can't be read: {reason}")

    def notes(self, what: str) -> tuple[str, ...]:
        """What was left out, and why.

        Args:
            what: the members are, in the plural.
        """
        found = self._faults[:NAMED]
        if len(self._faults) > NAMED:
            found.append(f"{len(self._faults) - NAMED} further {what} can't be read")
        if self._others:
            more = f" and {len(self._others) - NAMED} more" if len(self._others) > NAMED else ""
            found.append(f"{what} of kinds that aren't read: {', '.join(self._others[:NAMED])}{more}")
        return tuple(found)

    def _unpacked(self, name: str, data: bytes) -> bytes:
        if not name.lower().endswith(_PACKED):
            return data
        return unpacked(Counted(gzip.GzipFile(fileobj=io.BytesIO(data)), self.allowance))

    def _unique(self, member: str) -> str:
        name, number = member, 2
        while name in self._taken:
            stem, dot, ending = member.rpartition(".")
            name = f"{stem} ({number}){dot}{ending}" if stem else f"{member} ({number})"
            number += 1
        self._taken.add(name)
        return name
