"""Bytes as text, in whatever encoding they are in."""

from __future__ import annotations

import codecs

from fidkit.passages.load.extras import READS_IT
from fidkit.passages.load.record import UnreadableFile

_REMEDY = "save it as text in UTF-8 or leave it out"
# In this order: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Files of other kinds that are text to look at, by how they begin.
_OTHERS = ((b"%PDF-", "a PDF", ".pdf"), (b"{\\rtf", "RTF", ".rtf"))
# An encoding shows in the first characters that aren't ASCII; guessing over megabytes takes seconds.
_GUESSED_FROM = 64_000
# What a text has next to none of, and a binary file is full of.
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_MOST_CONTROLS = 0.01


def decode(data: bytes, name: str, declared: str = "") -> str:
    """The text of a file: UTF-8, UTF-16 or UTF-32 by its mark, else as declared, else as it looks.

    A byte order mark of UTF-8 stays in the text, as a character; those of UTF-16 and UTF-32 don't.

    Args:
        data: all of the file.
        name: of the file, for errors.
        declared: the encoding that the file says of itself, where its kind has a place for that.

    Raises:
        UnreadableFile: binary, a PDF or RTF under another name, or in an encoding that can't be told.
    """
    for mark, kind, ending in _OTHERS:
        if data.startswith(mark):
            raise UnreadableFile(name, f"{kind}, not text", f"give it a name that ends in {ending}")
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    text = _tried(data, encoding)
    if text is None and encoding == "utf-8" and not _is_binary(data):
        text = _tried(data, declared) if declared else None
        text = _guessed(data, name) if text is None else text
    if text is None or "\0" in text:
        raise UnreadableFile(name, "binary, not text", _REMEDY)
    return text


def _tried(data: bytes, encoding: str) -> str | None:
    try:
        text = data.decode(encoding)
        text.encode()  # UTF-7 and the like can make half characters
    except (LookupError, UnicodeError):
        return None
    return text


def _is_binary(data: bytes) -> bool:
    begin = data[:_GUESSED_FROM]
    return b"\0" in begin or len(begin) - len(begin.translate(None, _CONTROLS)) > _MOST_CONTROLS * len(begin)


def _guessed(data: bytes, name: str) -> str:
    """As charset-normalizer reads it."""
    try:
        from charset_normalizer import from_bytes
    except ModuleNotFoundError as error:
        raise UnreadableFile(name, f"not UTF-8 text; {READS_IT}", _REMEDY) from error
    best = from_bytes(_telling(data)).best()
    text = None if best is None else _tried(data, best.encoding)
    if text is None:
        raise UnreadableFile(name, "text in no encoding that can be told", _REMEDY)
    return text


def _telling(data: bytes) -> bytes:
    """The part of a text that its encoding shows in: from the first line on that isn't ASCII."""
    if len(data) <= _GUESSED_FROM:
        return data
    first = len(data) - len(data.lstrip(bytes(range(128))))
    return data[data.rfind(b"\n", 0, first) + 1 :][:_GUESSED_FROM]
