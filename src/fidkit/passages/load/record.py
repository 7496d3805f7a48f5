"""A passage as it is read from a file, and what is said when a file holds none."""

from __future__ import annotations

from typing import Any, BinaryIO, NamedTuple

from fidkit.errors import DataError


class Row(NamedTuple):
    """A passage as read; `start` and `end` are characters of the document, None in passage files."""

    id: str
    title: str
    text: str
    start: int | None = None
    end: int | None = None


TAKEN = "expected passage ids to be unique in a corpus"
"""How the reason of a file begins whose passages have the ids of others."""
NEXT_BUILD = "the next build tries again"
"""How the reason of a file ends that was left out for what the machine may have done."""


class UnreadableFile(DataError):
    """A file that passages can't be taken from: it isn't what its ending says, or its ids are taken.

    Attributes:
        reason: what was expected and what is there instead, without the file's name and the remedy.
    """

    def __init__(self, name: str, reason: str, remedy: str) -> None:
        super().__init__(f"{name}{'' if reason.startswith(', ') else ': '}{reason}; {remedy}")
        self.reason = reason.removeprefix(", ")


def malformed(name: str, line: int, reason: str, remedy: str = "mend or remove the line") -> UnreadableFile:
    """The error for a row that is no passage."""
    return UnreadableFile(name, f", line {line}: {reason}", remedy)


MOST_LINE = 16_000_000
"""Bytes of a line with a passage."""


def line_of(stream: BinaryIO, name: str, number: int) -> bytes:
    """The next line of a passage file; empty at its end.

    Args:
        stream: of the file.
        name: of it.
        number: of the line, counted from 1.

    Raises:
        UnreadableFile: it is longer than any passage.
    """
    line = stream.readline(MOST_LINE + 1)
    if len(line) > MOST_LINE:
        reason = f"expected a passage on a line, got a line of more than {MOST_LINE / 1e6:.0f} MB"
        raise malformed(name, number, reason, "put line ends between passages")
    return line


def row_of(record: dict[str, Any], name: str, line: int) -> Row:
    """A passage of named fields: `id`, `title`, `section`, `text`, as DPR, Atlas and others have them.

    `contents` (Pyserini, FlashRAG) holds the text, or title and text; `_id` (BEIR) is an id. An empty text
    with a title, as some rows of BEIR have it, is one of the title alone: there both are one text.

    Args:
        record: the fields.
        name: of the file; a row without an id gets one made of it and the line.
        line: counted from 1.

    Raises:
        UnreadableFile: no text, or a field of the wrong kind.
    """
    if "text" not in record and isinstance(contents := record.get("contents"), str):
        record = _parted(record, contents)
    text, title, section = record.get("text"), record.get("title") or "", record.get("section") or ""
    if isinstance(text, str) and not text.strip() and isinstance(title, str) and title.strip():
        title, text = "", title
    if not isinstance(text, str) or not text.strip():
        reason = f"expected a passage with a non-empty string as text, got {_said(text)}"
        raise malformed(name, line, reason, "add the text or remove the line")
    if not isinstance(title, str) or not isinstance(section, str):
        raise malformed(name, line, "expected strings as title and section", "mend the line")
    return Row(_id(record, name, line), ": ".join(part for part in (title, section) if part), text)


def _parted(record: dict[str, Any], contents: str) -> dict[str, Any]:
    """Title, in quotes or not, on the first line, text below it; a single line is text."""
    title, _, text = contents.partition("\n")
    if not text.strip():
        return {**record, "text": contents.strip()}
    return {**record, "title": title.strip().strip('"'), "text": text}


def _id(record: dict[str, Any], name: str, line: int) -> str:
    key = next((record[field] for field in ("id", "_id") if record.get(field) not in (None, "")), None)
    if key is None:
        return f"{name}#{line}"
    if isinstance(key, bool) or not isinstance(key, int | str):
        reason = f"expected a whole number or a string as id, got {_said(key)}"
        raise malformed(name, line, reason, "mend the line")
    return str(key)


def _said(value: object) -> str:
    return "none" if value is None else repr(value)[:40]
