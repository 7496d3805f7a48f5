"""Reads passages out of files: passage files (JSONL, DPR's TSV) and documents (text, Markdown)."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from fidkit.errors import DataError
from fidkit.passages.load.cutting import cut_markdown, cut_text, first_heading

_TSV_COLUMNS = ("id", "text", "title")
_CELL_CHARACTERS = 10_000_000


class Row(NamedTuple):
    """A passage as read; `start` and `end` are characters of the document, None in passage files."""

    id: str
    title: str
    text: str
    start: int | None = None
    end: int | None = None


def read_passages(raw: BinaryIO, name: str) -> Iterator[Row]:
    """Rows of the passage file `name`, opened as `raw`; `.gz` is unpacked on the way.

    Raises:
        DataError: a row that is no passage, or a broken archive; names the file and the line.
    """
    plain = name.removesuffix(".gz")
    stream = gzip.GzipFile(fileobj=raw) if plain != name else raw
    read = _read_tsv if plain.endswith(".tsv") else _read_jsonl
    try:
        yield from read(stream, name)  # type: ignore[arg-type]  # GzipFile reads like a BinaryIO
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{name}: expected a whole gzip file, but {error}; fetch or compress it again"
        ) from error


class UnreadableDocument(Exception):
    """A document that is no text; `sha256` is the hash of what was read."""

    def __init__(self, reason: str, sha256: str) -> None:
        super().__init__(reason)
        self.sha256 = sha256


def read_document(raw: BinaryIO, name: str, sha256: str = "") -> Iterator[Row]:
    """Passages of the document `name`; offsets count characters of its bytes decoded as UTF-8.

    Line ends are not translated. Ids are `name#1`, `name#2`, ...; Markdown passages are titled by the
    document's first heading and the section they stand in, text by the file's stem.

    Raises:
        UnreadableDocument: binary, or not UTF-8.
    """
    try:
        document = raw.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableDocument("not UTF-8 text", sha256) from error
    if "\0" in document:
        raise UnreadableDocument("binary, not text", sha256)
    stem = Path(name).stem
    is_markdown = name.lower().endswith((".md", ".markdown"))
    title = (first_heading(document) if is_markdown else "") or stem
    for number, piece in enumerate((cut_markdown if is_markdown else cut_text)(document), start=1):
        full = f"{title}: {piece.section}" if piece.section not in ("", title) else title
        yield Row(f"{name}#{number}", full, document[piece.start : piece.end], piece.start, piece.end)


def _read_jsonl(stream: BinaryIO, name: str) -> Iterator[Row]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8"))
        except ValueError as error:
            raise DataError(
                f'{name}, line {number}: expected one JSON object such as {{"id": 1, "title": "...", '
                f'"text": "..."}}, but {error}; mend or remove the line'
            ) from error
        if not isinstance(record, dict):
            raise DataError(
                f"{name}, line {number}: expected a JSON object with a text, "
                f"got {type(record).__name__}; mend or remove the line"
            )
        row = _row(record, name, number)
        if b"\\u" in line:
            _refuse_half_characters(row, name, number)
        yield row


def _refuse_half_characters(row: Row, name: str, number: int) -> None:
    try:
        f"{row.id}{row.title}{row.text}".encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{name}, line {number}: expected whole characters, got {error.object[error.start]!r}, half of a "
            "surrogate pair; mend or remove the line"
        ) from error


def _read_tsv(stream: BinaryIO, name: str) -> Iterator[Row]:
    csv.field_size_limit(_CELL_CHARACTERS)
    reader = csv.reader(io.TextIOWrapper(stream, encoding="utf-8", newline=""), delimiter="\t")
    try:
        header = next(reader, [])
        if not set(_TSV_COLUMNS) <= set(header):
            raise DataError(
                f"{name}, line 1: expected the header id, text, title of DPR's psgs_w100.tsv, "
                f"got {', '.join(header)[:80]!r}; add it or convert the file to JSONL"
            )
        for cells in reader:
            if len(cells) != len(header):
                raise DataError(
                    f"{name}, line {reader.line_num}: expected {len(header)} tab-separated columns, "
                    f"got {len(cells)}; mend or remove the line"
                )
            yield _row(dict(zip(header, cells, strict=True)), name, reader.line_num)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{name}, after line {reader.line_num}: expected UTF-8, tab-separated, but {error}; mend the file"
        ) from error


def _row(record: dict[str, Any], name: str, number: int) -> Row:
    if "text" not in record and isinstance(contents := record.get("contents"), str):
        record = _flashrag(record, contents)
    text, title, section = record.get("text"), record.get("title") or "", record.get("section") or ""
    if not isinstance(text, str) or not text.strip():
        raise DataError(
            f"{name}, line {number}: expected a passage with a non-empty string as text, "
            f"got {_shown(text)}; add the text or remove the line"
        )
    if not isinstance(title, str) or not isinstance(section, str):
        raise DataError(f"{name}, line {number}: expected strings as title and section; mend the line")
    key = record.get("id")
    if key is None or key == "":
        key = f"{name}#{number}"
    elif isinstance(key, bool) or not isinstance(key, int | str):
        raise DataError(
            f"{name}, line {number}: expected a whole number or a string as id, "
            f"got {_shown(key)}; mend the line"
        )
    return Row(str(key), ": ".join(part for part in (title, section) if part), text)


def _flashrag(record: dict[str, Any], contents: str) -> dict[str, Any]:
    """Its rows have the title, in quotes, on the first line of the text."""
    title, _, text = contents.partition("\n")
    return {**record, "title": title.strip().strip('"'), "text": text}


def _shown(value: object) -> str:
    return "none" if value is None else repr(value)[:40]
