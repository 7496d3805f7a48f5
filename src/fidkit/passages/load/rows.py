"""Reads passages out of files: unpacks them, and leaves the rest to the loader of their ending."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from fidkit.passages.load.record import Row, UnreadableFile
from fidkit.passages.load.table import NAMED, PACKED, loader_of

__all__ = ["Row", "UnreadableFile", "read_rows"]


def read_rows(raw: BinaryIO, name: str) -> Iterator[Row]:
    """Passages of the file `name`, opened as `raw`, which stays open; `.gz` is unpacked on the way.

    A file whose ending says nothing is read as text.

    Raises:
        UnreadableFile: not what its ending says, or a broken archive; names the file, and the line if any.
    """
    stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if name.lower().endswith(PACKED) else raw
    try:
        yield from (loader_of(name) or NAMED).read(stream, name)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        reason = f"expected a whole gzip file, but {error}"
        raise UnreadableFile(name, reason, "fetch or compress it again") from error
