"""Passages as JSONL: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from fidkit.passages.load.record import Row, line_of, malformed, row_of


def read_jsonl(stream: BinaryIO, name: str) -> Iterator[Row]:
    """A passage for each line that isn't blank; a byte order mark in front is passed over.

    Raises:
        UnreadableFile: a line that is no passage; names the file and the line.
    """
    number = 0
    while line := line_of(stream, name, number := number + 1):
        if not line.strip():
            continue
        row = row_of(_object(line, name, number), name, number)
        if b"\\u" in line:
            _refuse_half_characters(row, name, number)
        yield row


def _object(line: bytes, name: str, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (ValueError, RecursionError) as error:  # the latter: nested a thousand times
        example = '{"id": 1, "title": "...", "text": "..."}'
        raise malformed(name, number, f"expected one JSON object such as {example}, but {error}") from error
    if not isinstance(record, dict):
        got = type(record).__name__
        raise malformed(name, number, f"expected a JSON object with a text, got {got}")
    return record


def _refuse_half_characters(row: Row, name: str, number: int) -> None:
    try:
        f"{row.id}{row.title}{row.text}".encode()
    except UnicodeEncodeError as error:
        got = f"{error.object[error.start]!r}, half of a surrogate pair"
        raise malformed(name, number, f"expected whole characters, got {got}") from error
