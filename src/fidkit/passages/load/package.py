"""What files of office programs have in common: a ZIP archive of XML, which a stranger may have made.

Nothing of it is written to disk. What is unpacked is counted, so that a small file can't fill the memory, and
XML is parsed without entities, external files and network.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote

from fidkit.errors import is_panic
from fidkit.passages.load.extras import is_lacking
from fidkit.passages.load.record import UnreadableFile

if TYPE_CHECKING:
    from lxml import etree

MB = 1_000_000
LEAST, MOST, RATIO = 100 * MB, 1000 * MB, 200
LARGEST_XML = 100 * MB
"""Bytes of one XML file in a package; its tree takes about ten times as much memory."""

_CHUNK = 1 << 20
OLE = bytes.fromhex("d0cf11e0a1b11ae1")
# Names of streams in a compound file are UTF-16.
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
WITHOUT_PASSWORD = "save it without a password or leave it out"
ANEW = "open it in its program and save it again, or leave it out"


class TooLarge(Exception):
    """A file unpacks to more than may be unpacked of it."""


class Allowance:
    """Bytes that may be unpacked out of a file: 200 times its size, at least 100 MB, at most 1 GB."""

    def __init__(self, packed: int) -> None:
        self.limit = min(MOST, max(LEAST, RATIO * packed))
        self.left = self.limit

    @classmethod
    def of(cls, stream: BinaryIO) -> Allowance:
        """What may be unpacked out of a file; of a member of another file, what is left of that one's."""
        return stream.allowance if isinstance(stream, Member) else cls(size_of(stream))

    def spend(self, count: int) -> None:
        """Take some bytes of it.

        Raises:
            TooLarge: there aren't as many left.
        """
        self.left -= count
        if self.left < 0:
            raise TooLarge(f"it unpacks to more than {self.limit // MB} MB")


class Member(io.BytesIO):
    """A file that was unpacked out of another one.

    Attributes:
        allowance: shared by all that lie in the outermost file.
        depth: how many files it lies in.
        path: its name, behind those of the files that it lies in, without the outermost.
    """

    def __init__(self, data: bytes, allowance: Allowance, depth: int, path: str) -> None:
        super().__init__(data)
        self.allowance, self.depth, self.path = allowance, depth, path


class Counted:
    """A packed stream whose bytes are taken from an allowance."""

    def __init__(self, stream: Any, allowance: Allowance) -> None:
        self._stream, self._allowance = stream, allowance

    def read(self, size: int = _CHUNK) -> bytes:
        """Some bytes; none at the end.

        Raises:
            TooLarge: more than allowed.
        """
        part: bytes = self._stream.read(size)
        self._allowance.spend(len(part))
        return part


def unpacked(stream: Counted, most: int = MOST) -> bytes:
    """All bytes of a packed stream.

    Raises:
        TooLarge: more than allowed, or more than `most`.
    """
    parts, length = [], 0
    while part := stream.read():
        length += len(part)
        if length > most:
            raise TooLarge(f"a part of it unpacks to more than {most // MB} MB")
        parts.append(part)
    return b"".join(parts)


@contextmanager
def reading(name: str, what: str) -> Iterator[None]:
    """Turns whatever a broken file leads to into `UnreadableFile`; a package that is missing stays that.

    Args:
        name: of the file.
        what: it should be, with its article: `a Word document`.
    """
    try:
        yield
    except (UnreadableFile, MemoryError):
        raise
    except TooLarge as error:
        raise UnreadableFile(name, f"expected {what}, but {error}", "split it or leave it out") from error
    except Exception as error:
        if is_lacking(error):  # the file is as it should be
            raise
        raise UnreadableFile(name, f"expected {what}, but {said(error)}", ANEW) from error
    except BaseException as error:
        if not is_panic(error):
            raise
        raise UnreadableFile(name, f"expected {what}, but it is broken", ANEW) from error


def said(error: BaseException) -> str:
    """What went wrong, on one short line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = " ".join(str(error).split())[:160]
    plain = isinstance(error, zipfile.BadZipFile | zlib.error | ValueError | OSError | SyntaxError)
    return text if plain and text else f"it is broken ({type(error).__name__}{': ' if text else ''}{text})"


def size_of(stream: BinaryIO) -> int:
    """Bytes of a stream, which stands at its end afterwards."""
    return stream.seek(0, 2)


def refuse_compound(stream: BinaryIO, name: str, what: str, sibling: str) -> None:
    """Says of a compound file, which ZIP isn't, what it is: encrypted, or of an old program.

    Args:
        stream: seekable; stands at its beginning afterwards.
        name: of the file.
        what: was expected.
        sibling: the format of old programs, such as `.doc`.

    Raises:
        UnreadableFile: it is one.
    """
    stream.seek(0)
    head = stream.read(8)
    if head == OLE:
        rest = stream.read()
        if _ENCRYPTED in rest:
            raise UnreadableFile(
                name, f"expected {what} that is open, but it needs a password", WITHOUT_PASSWORD
            )
        reason = f"expected {what}, got a file of an older kind (as {sibling} is)"
        raise UnreadableFile(name, reason, "save it in today's format or leave it out")
    stream.seek(0)
    if head[:2] != b"PK":
        raise UnreadableFile(
            name, f"expected {what}, got {_kind(head)}", "give it the right ending or leave it out"
        )


def _kind(head: bytes) -> str:
    if not head:
        return "an empty file"
    known = {b"%PDF": "a PDF", b"{\\rt": "RTF", b"<htm": "a web page", b"<!DO": "a web page", b"<?xm": "XML"}
    return known.get(head[:4], "a file of another kind")


class Package:
    """The members of an office file, by their names."""

    def __init__(self, stream: BinaryIO, name: str, what: str, sibling: str) -> None:
        """Open it.

        Args:
            stream: seekable; stays open.
            name: of the file.
            what: it should be, with its article.
            sibling: the ending of the format that the programs had before.

        Raises:
            UnreadableFile: not a ZIP archive; says what it is instead.
        """
        self.name, self.what = name, what
        self.allowance = Allowance.of(stream)
        refuse_compound(stream, name, what, sibling)
        self._zip = zipfile.ZipFile(stream)
        self.names = set(self._zip.namelist())

    def read(self, member: str, most: int = LARGEST_XML) -> bytes:
        """The bytes of a member.

        Raises:
            UnreadableFile: there is none of this name.
            TooLarge: more than allowed.
        """
        with self.opened(member) as stream:
            return unpacked(stream, most)

    @contextmanager
    def opened(self, member: str) -> Iterator[Counted]:
        """A member as a stream of bytes that are counted.

        Raises:
            UnreadableFile: there is none of this name.
        """
        if member not in self.names:
            raise UnreadableFile(self.name, f"expected {self.what}, but {member} is missing in it", ANEW)
        with self._zip.open(member) as stream:
            yield Counted(stream, self.allowance)

    def xml(self, member: str) -> etree._Element:
        """A member as a tree."""
        return parsed(self.read(member))

    def maybe(self, member: str | None) -> etree._Element | None:
        """A member as a tree; None where there is none."""
        return self.xml(member) if member in self.names else None

    def related(self, member: str) -> dict[str, tuple[str, str]]:
        """What a part of an Office Open XML file refers to: by id, the last word of its type, and name."""
        folder, _, file = member.rpartition("/")
        root = self.maybe(f"{folder}/_rels/{file}.rels" if folder else f"_rels/{file}.rels")
        found = {}
        for node in () if root is None else root.iterchildren("{*}Relationship"):
            if node.get("TargetMode") != "External":
                target = resolved(folder, node.get("Target", ""))
                found[node.get("Id", "")] = (node.get("Type", "").rpartition("/")[2], target)
        return found

    def another(self) -> UnreadableFile:
        """The error for a package that was made for something else."""
        reason = f"expected {self.what}, got another kind of office file"
        return UnreadableFile(self.name, reason, "give it the right ending or leave it out")

    def main(self, fallback: str) -> str:
        """The name of the part that an Office Open XML file is about."""
        parts = [target for kind, target in self.related("").values() if kind == "officeDocument"]
        return parts[0] if parts and parts[0] in self.names else fallback


def resolved(folder: str, target: str) -> str:
    """The name of a member that another one in `folder` refers to, without what follows `#`."""
    path = unquote(target.partition("#")[0])
    return posixpath.normpath(path.lstrip("/") if path.startswith("/") else posixpath.join(folder, path))


def parsed(data: bytes) -> etree._Element:
    """XML as a tree, without entities, external files and network."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
                             remove_comments=True, remove_pis=True)  # fmt: skip
    return etree.fromstring(data, parser)


def core_facts(package: Package) -> tuple[str, dict[str, str]]:
    """Title, and author, date and language, that an Office Open XML file says of itself."""
    parts = [target for kind, target in package.related("").values() if kind == "core-properties"]
    root = package.maybe(parts[0] if parts else None)
    said = (
        {}
        if root is None
        else {_local(node): " ".join((node.text or "").split()) for node in root.iterchildren("*")}
    )
    title = said.get("title", "")
    facts = {
        "author": said.get("creator", ""),
        "date": said.get("modified", "") or said.get("created", ""),
        "language": said.get("language", ""),
    }
    return "" if title in _NO_TITLES else title, {key: value for key, value in facts.items() if value}


def _local(node: etree._Element) -> str:
    return str(node.tag).rpartition("}")[2]


# What programs and libraries write where a person wrote no title.
_NO_TITLES = {
    "Word Document",
    "PowerPoint Presentation",
    "PowerPoint-Präsentation",
    "Présentation PowerPoint",
}
