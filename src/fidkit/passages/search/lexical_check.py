"""Whether the files of a lexical index are those that were written.

tantivy reads without looking: a flipped bit gives other hits or ends a search. But it writes behind each file
a record with the CRC-32 of what stands before it, how long that record is, and a mark.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from fidkit.paths import is_plain_name

_ENDINGS = ("fast", "fieldnorm", "idx", "pos", "store", "term")
_MARK = (1337).to_bytes(4, "little")
_AT_ONCE = 1 << 24


def damaged_files(directory: Path) -> Iterator[tuple[str, str]]:
    """Files of an index that are missing or not as they were written: (name, what is wrong).

    Args:
        directory: of the index.
    """
    try:
        segments = json.loads((directory / "meta.json").read_bytes())["segments"]
        names = [name for segment in segments for name in _names(segment)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        yield "meta.json", f"can't be read ({error})"
        return
    for name in names:
        if not is_plain_name(name):
            yield "meta.json", "names files elsewhere"
            return
        try:
            if not _is_whole(directory / name):
                yield name, "isn't as it was written"
        except OSError as error:
            yield name, error.strerror or "can't be read"


def _names(segment: dict[str, object]) -> Iterator[str]:
    stem = str(segment["segment_id"]).replace("-", "")
    yield from (f"{stem}.{ending}" for ending in _ENDINGS)
    deletes = segment["deletes"]
    if isinstance(deletes, dict):
        yield f"{stem}.{deletes['opstamp']}.del"


def _is_whole(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < 8:
            return False
        file.seek(size - 8)
        length, mark = int.from_bytes(file.read(4), "little"), file.read(4)
        body = size - 8 - length
        if mark != _MARK or body < 0:
            return False
        file.seek(body)
        try:
            wanted = json.loads(file.read(length))["crc"]
        except (ValueError, KeyError, TypeError):
            return False
        file.seek(0)
        found = 0
        while body:
            part = file.read(min(_AT_ONCE, body))
            if not part:
                return False
            found, body = zlib.crc32(part, found), body - len(part)
        return bool(found == wanted)
