"""Mailboxes (MBOX): mails one after the other, as Thunderbird and many an export keep them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.parser import BytesHeaderParser
from functools import partial
from typing import BinaryIO

from fidkit.passages.load.document import Document
from fidkit.passages.load.mail import mail_name, read_mail
from fidkit.passages.load.members import Members, ReaderOf, reader_of
from fidkit.passages.load.record import UnreadableFile

_BEGINS = b"From "
"""How the line above each mail begins; none of its own."""
_NEXT = re.compile(rb"\n\r?\nFrom [^\n]*\n(?:>?From |[!-9;-~]+:)")
"""Where the next mail begins: what a mail says may begin a line so, but has no header below."""
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)


def read_mailbox(stream: BinaryIO, name: str, reader_of: ReaderOf = reader_of) -> Iterator[Document]:
    """Each mail, called by its subject as `member`, and its attachments.

    What was left out is in the notes of a document without `member` and text, which comes last.

    Args:
        stream: seekable.
        name: of the file.
        reader_of: what reads mails.

    Raises:
        UnreadableFile: it isn't one.
    """
    members = Members(stream, reader_of)  # it asks for the size, and leaves the stream at its end
    stream.seek(0)
    for number, mail in enumerate(_mails(stream, name), start=1):
        member = mail_name(BytesHeaderParser().parsebytes(mail), number)
        if (read := members.reader_of(member)) is not None:
            yield from members.documents(member, read, partial(_QUOTED.sub, rb"\1", mail))
    if notes := members.notes("mails"):
        yield Document("", "", notes=notes)


def read_mail_or_mailbox(stream: BinaryIO, name: str, reader_of: ReaderOf = reader_of) -> Iterator[Document]:
    """A mail, or all mails of a mailbox that was given the name of one, as some programs export it.

    Args:
        stream: seekable.
        name: of the file.
        reader_of: what reads mails and attachments.

    Raises:
        UnreadableFile: it is neither.
    """
    several = stream.read(len(_BEGINS)) == _BEGINS and _NEXT.search(stream.read()) is not None
    stream.seek(0)
    yield from (read_mailbox if several else read_mail)(stream, name, reader_of)


def _mails(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """One at a time: a mailbox may hold more than memory does."""
    if not stream.readline().startswith(_BEGINS):
        reason = "expected a mailbox, whose first line begins with 'From ', got another file"
        raise UnreadableFile(name, reason, "leave it out")
    lines: list[bytes] = []
    for line in stream:
        if line.startswith(_BEGINS) and (not lines or not lines[-1].strip()):
            yield b"".join(lines)
            lines = []
        else:
            lines.append(line)
    yield b"".join(lines)
