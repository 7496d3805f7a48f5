"""Archives (ZIP): each file in it that can be read is a document. Nothing is written to disk."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import BinaryIO

from fidkit.passages.load.document import Document
from fidkit.passages.load.members import Members, ReaderOf, reader_of
from fidkit.passages.load.package import Counted, reading, unpacked
from fidkit.passages.load.record import UnreadableFile
from fidkit.wording import counted

_WHAT = "a ZIP archive"
MOST_MEMBERS = 100_000
_ENCRYPTED = 0x1
_UTF8 = 0x800


def read_archive(stream: BinaryIO, name: str, reader_of: ReaderOf = reader_of) -> Iterator[Document]:
    """Documents of an archive, each with its path in it as `member`.

    What was left out is in the notes of a document without `member` and text, which comes last. Hidden
    files, and those that macOS adds, are passed over. Archives in archives are read, four deep.

    Args:
        stream: seekable.
        name: of the file.
        reader_of: what reads the files in it.

    Raises:
        UnreadableFile: it isn't one, its directory is broken, or it has too many members.
    """
    with reading(name, _WHAT):
        archive = zipfile.ZipFile(stream)
    if (count := len(archive.infolist())) > MOST_MEMBERS:
        reason = f"expected at most {MOST_MEMBERS:,} files in {_WHAT}, got {count:,}"
        raise UnreadableFile(name, reason, "split it or leave it out")
    members = Members(stream, reader_of)
    hidden = 0
    for info in archive.infolist():
        path = _path(info)
        if info.is_dir() or not path:
            continue
        if path.startswith("__MACOSX/") or any(part.startswith(".") for part in path.split("/")):
            hidden += 1
        elif (read := members.reader_of(path)) is None:
            continue
        elif info.flag_bits & _ENCRYPTED:
            members.fault(path, "it needs a password")
        else:
            yield from members.documents(path, read, partial(_data, archive, info, members))
    notes = members.notes("files")
    if hidden:
        notes += (f"{counted(hidden, 'hidden file is', 'hidden files are')} passed over",)
    if notes:
        yield Document("", "", notes=notes)


def _data(archive: zipfile.ZipFile, info: zipfile.ZipInfo, members: Members) -> bytes:
    with archive.open(info) as packed:
        return unpacked(Counted(packed, members.allowance))


def _path(info: zipfile.ZipInfo) -> str:
    """Where a member lies in the archive: a name, never a way out of it."""
    path = info.filename
    if not info.flag_bits & _UTF8 and not path.isascii():
        # Many a program writes UTF-8 without saying so.
        with suppress(UnicodeError):
            path = path.encode("cp437").decode("utf-8")
    path = "".join(character if character.isprintable() else "\ufffd" for character in path)
    return "/".join(part for part in path.replace("\\", "/").split("/") if part not in ("", ".", ".."))
