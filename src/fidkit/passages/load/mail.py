"""Mails (EML): who wrote to whom and when, the text, and attachments as documents of their own."""

from __future__ import annotations

import email
import email.header
import email.utils
import re
from collections.abc import Callable, Iterator
from email.errors import HeaderParseError
from email.message import Message
from functools import partial
from typing import BinaryIO

from fidkit.passages.load.document import Document, Writer
from fidkit.passages.load.members import Members, ReaderOf, reader_of
from fidkit.passages.load.package import reading
from fidkit.passages.load.prose import flat, sound
from fidkit.passages.load.record import UnreadableFile
from fidkit.passages.load.xhtml import html_tree, write_html

_WHAT = "a mail"
_HEADERS = ("From", "To", "Subject", "Date", "Message-ID", "Received", "MIME-Version")
_LONGEST_HEADER = 10_000
_ENDINGS = {"text/plain": ".txt", "text/html": ".html", "text/csv": ".csv", "application/pdf": ".pdf",
            "text/markdown": ".md", "message/rfc822": ".eml", "application/zip": ".zip"}  # fmt: skip
# The old policy: the new one takes time with the square of a header's length, and fails on broken ones.


def read_mail(stream: BinaryIO, name: str, reader_of: ReaderOf = reader_of) -> Iterator[Document]:
    """A mail, then its attachments with their names as `member`; a mail in a mail is one of them.

    Places: `part`, labelled by number. Text is preferred to HTML where a mail has both.

    Args:
        stream: seekable.
        name: of the file.
        reader_of: what reads attachments.

    Raises:
        UnreadableFile: it isn't one.
    """
    with reading(name, _WHAT):
        message = email.message_from_bytes(stream.read())
        if not any(header in message for header in _HEADERS):
            raise UnreadableFile(name, f"expected {_WHAT}, got a file without its headers", "leave it out")
        stream.seek(0)
        members = Members(stream, reader_of)
        writer = Writer()
        attached: list[Document] = []
        for number, part in enumerate(_parts(message), start=1):
            if _is_text(part):
                writer.begin("part", str(number))
                _write(writer, part)
                writer.end()
            else:
                attached += _attachment(part, members, number)
        facts = {"from": _header(message, "From"), "to": _header(message, "To"), "date": _date(message)}
        document = writer.document(
            _header(message, "Subject"),
            facts={key: value for key, value in facts.items() if value},
            notes=members.notes("attachments"),
        )
    yield document
    yield from attached


def _parts(message: Message) -> Iterator[Message]:
    """Texts and attachments, in order; of alternatives the text, or what holds it."""
    if message.get_content_type() == "message/rfc822" or not message.is_multipart():
        yield message
        return
    inner = [part for part in message.get_payload() if isinstance(part, Message)]
    if message.get_content_type() == "multipart/alternative":
        found = [list(_parts(part)) for part in inner]
        texts = [parts for parts in found if any(map(_is_text, parts))]
        filled = [parts for parts in texts if any(_text(part).strip() for part in parts if _is_text(part))]
        plain = [parts for parts in filled if parts[0].get_content_type() == "text/plain"]
        chosen = (plain or filled or texts or found)[:1]
        yield from (part for parts in chosen for part in parts)
        # An invitation to a meeting, say, is an alternative to its description.
        yield from (part for parts in found if parts not in chosen for part in parts if not _is_text(part))
        return
    for part in inner:
        yield from _parts(part)


def _is_text(part: Message) -> bool:
    """Whether a part is shown as the mail's text."""
    shown = part.get_content_type() in ("text/plain", "text/html", "text/enriched")
    return shown and part.get_content_disposition() != "attachment" and not part.get_filename()


def _text(part: Message) -> str:
    data = _bytes(part)
    charset = part.get_content_charset("")
    for name in (charset, "utf-8"):
        try:
            return data.decode(name)
        except (LookupError, ValueError):
            continue
    return data.decode("cp1252", "replace")


def _write(writer: Writer, part: Message) -> None:
    text = sound(_text(part).replace("\r\n", "\n"))
    if part.get_content_type() == "text/html":
        if (root := html_tree(text)) is not None:
            write_html(writer, root)
        return
    if str(part.get_param("format", "")).lower() == "flowed":
        text = _unflowed(text)
    for paragraph in re.split(r"\n\s*\n", text):
        writer.block(paragraph.strip("\n"))


def _unflowed(text: str) -> str:
    """Lines that were broken for a screen's width, joined; a space at their end says so (RFC 3676)."""
    parts = []
    for line in text.split("\n"):
        soft = line.endswith(" ") and line != "-- " and not line.startswith(">")
        parts.append(line if soft else line + "\n")
    return "".join(parts)


def mail_name(message: Message, number: int) -> str:
    """What a mail in another file is called: by its subject, or by its number where it has none."""
    return f"{_header(message, 'Subject')[:100].replace('/', '-') or f'mail {number}'}.eml"


def _attachment(part: Message, members: Members, number: int) -> Iterator[Document]:
    kind = part.get_content_type()
    inner = part.get_payload()
    if kind == "message/rfc822" and isinstance(inner, list) and inner and isinstance(inner[0], Message):
        message = inner[0]
        member = _file_name(part) or mail_name(message, number)
        if not member.lower().endswith(".eml"):
            member += ".eml"
        data: Callable[[], bytes] = message.as_bytes
    else:
        member = _file_name(part) or f"part {number}{_ENDINGS.get(kind, '')}"
        data = partial(_bytes, part)

    if (read := members.reader_of(member)) is not None:
        yield from members.documents(member, read, data)


def _bytes(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _file_name(part: Message) -> str:
    """The name that an attachment was given, without a folder."""
    name = flat(_decoded(part.get_filename() or ""))
    return re.split(r"[/\\]", name)[-1]


def _header(message: Message, name: str) -> str:
    return flat(_decoded(str(message.get(name, ""))))


def _decoded(value: str) -> str:
    """A header with its encoded words as text; as it is where they are broken."""
    value = value[:_LONGEST_HEADER]
    try:
        return sound(str(email.header.make_header(email.header.decode_header(value))))
    except (LookupError, ValueError, HeaderParseError):
        return sound(value)


def _date(message: Message) -> str:
    try:
        return email.utils.parsedate_to_datetime(_header(message, "Date")).isoformat()
    except (TypeError, ValueError, OverflowError, IndexError):
        return ""
