"""Workbooks of the old kind (XLS), made by hand: a compound file with one stream of records."""

from __future__ import annotations

import struct

_FREE, _END, _TABLE = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
_SECTOR = 512


def record(kind: int, data: bytes = b"") -> bytes:
    """A record of a workbook: its kind, its length, its bytes."""
    return struct.pack("<HH", kind, len(data)) + data


def beyond_memory() -> bytes:
    """Records of a workbook with a sheet of two cells, the first and the last that there may be.

    A library that makes a grid of all cells between them takes 100 GB, or ends its process.
    """
    sheet = _begin(0x10) + _number(0, 0) + _number(0xFFFF, 0xFFFF) + record(0x0A)
    begin, name = _begin(0x05), b"\x06\x00Aurora"
    # Behind itself and the end of the globals, the sheet begins.
    at = len(begin) + 4 + 6 + len(name) + 4
    return begin + record(0x85, struct.pack("<IH", at, 0) + name) + record(0x0A) + sheet


def _begin(kind: int) -> bytes:
    return record(0x809, struct.pack("<HHHHII", 0x600, kind, 0x2000, 2000, 0, 6))


def _number(row: int, column: int) -> bytes:
    return record(0x203, struct.pack("<HHHd", row, column, 0, 3.0))


def compound(stream: bytes, circle: bool = False) -> bytes:
    """A compound file with the stream `Workbook`; in a circle, its sectors lead back to the first one."""
    stream = stream.ljust(4096, b"\0")
    stream += bytes(-len(stream) % _SECTOR)
    count = len(stream) // _SECTOR
    chain = [*range(3, 2 + count), 2 if circle else _END]
    table = [_TABLE, _END, *chain]
    sectors = struct.pack(f"<{_SECTOR // 4}I", *table, *[_FREE] * (_SECTOR // 4 - len(table)))
    entries = _entry("Root Entry", 5, 1, _END, 0) + _entry("Workbook", 2, _FREE, 2, len(stream))
    head = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16) + struct.pack("<HHHHH6x", 0x3E, 3, 0xFFFE, 9, 6)
    head += struct.pack("<IIIIIIIII", 0, 1, 1, 0, 4096, _END, 0, _END, 0)
    return head + struct.pack("<109I", 0, *[_FREE] * 108) + sectors + entries.ljust(_SECTOR, b"\0") + stream


def _entry(name: str, kind: int, child: int, start: int, size: int) -> bytes:
    spelled = name.encode("utf-16-le")
    return struct.pack("<64sHBBIII16xIQQIQ", spelled, len(spelled) + 2, kind, 1, _FREE, _FREE, child, 0, 0, 0,
                       start, size)  # fmt: skip
