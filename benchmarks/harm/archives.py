"""Hostile archives: ways out of them, bombs, archives in archives, too many members, members that crash."""

from __future__ import annotations

import gzip
import io
import stat
import zipfile
from collections.abc import Iterator

from documents import packed
from harm.old_workbook import beyond_memory, compound

MB = 1_000_000
TEXT = b"The Aurora sailed in 1901.\n"


def files() -> Iterator[tuple[str, bytes]]:
    """Each by its name."""
    yield "ways out.zip", packed({"../../outside.txt": TEXT, "/outside.txt": TEXT, "C:\\outside.txt": TEXT,
                                  "..\\outside.txt": TEXT, "a/../../../outside.txt": TEXT})  # fmt: skip
    yield "links.zip", _links()
    nested = packed({"aurora.txt": TEXT})
    for depth in range(10):
        nested = packed({f"{depth}.zip": nested, f"{depth}.txt": TEXT})
    yield "ten in one another.zip", nested
    yield "200,000 members.zip", _many(200_000)
    yield "a gigabyte of zeros.zip", packed({"a.txt": bytes(1000 * MB), "b.txt": TEXT})
    yield "overlapping.zip", _overlapping(2_000)
    inner = packed({"a.txt": bytes(90 * MB)})
    yield "bombs side by side.zip", packed({f"{n}.zip": inner for n in range(100)})
    yield "one name 3,000 times.zip", _same_name(3_000)
    whole = packed({f"{n}.txt": TEXT * 50 for n in range(50)})
    yield "cut off.zip", whole[: len(whole) // 2]
    yield "broken within.zip", whole[:200] + bytes(2000) + whole[2200:]
    yield "sizes that lie.zip", _lying()
    yield "a password.zip", _locked()
    yield "names.zip", packed({"a\nb.txt": TEXT, "\x1b[2J.txt": TEXT, "\u202etxt.exe.txt": TEXT,
                               "x" * 60_000 + ".txt": TEXT, " .txt": TEXT, "con.txt": TEXT})  # fmt: skip
    yield "a member that ends its loader.zip", packed({
        "a.txt": TEXT, "b.xls": compound(beyond_memory()), "c.txt": TEXT,
    })  # fmt: skip
    yield "members that end their loader.zip", packed({
        f"{n}.{'xls' if n % 2 else 'txt'}": compound(beyond_memory()) if n % 2 else TEXT for n in range(60)
    })  # fmt: skip
    yield "another kind.zip", b"Rar!\x1a\x07\x01\x00" + bytes(4000)
    yield "a bomb.txt.gz", gzip.compress(bytes(1000 * MB), 1)
    yield "a bomb.csv.gz", gzip.compress(b"a,b\n" * (50 * MB), 1)
    yield "a bomb of one line.jsonl.gz", gzip.compress(b'{"text": "' + b"a" * 3000 * MB, 1)
    yield "cut off.txt.gz", gzip.compress(TEXT * 1000)[:-20]
    yield "gzip in gzip.txt.gz", gzip.compress(gzip.compress(TEXT * 100))


def _links() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, target in (("passwd.txt", "/etc/passwd"), ("loop.txt", "loop.txt"), ("up.txt", "../..")):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
        archive.writestr("aurora.txt", TEXT)
    return stream.getvalue()


def _many(count: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.txt", b"Ship %d." % number)
    return stream.getvalue()


def _overlapping(count: int) -> bytes:
    """Members that all are the same bytes of the archive, as in David Fifield's bomb."""
    data = packed({"0.txt": bytes(20 * MB)})
    at = data.index(b"PK\x01\x02")
    entry = data[at : data.index(b"PK\x05\x06")]
    entries = b"".join(entry.replace(b"0.txt", b"%05d" % n) for n in range(count))
    end = b"PK\x05\x06" + bytes(4) + count.to_bytes(2, "little") * 2
    return (
        data[:at] + entries + end + len(entries).to_bytes(4, "little") + at.to_bytes(4, "little") + bytes(2)
    )


def _same_name(count: int) -> bytes:
    data = packed({f"{n:05}.txt": b"Ship %d." % n for n in range(count)})
    for number in range(count):
        data = data.replace(b"%05d.txt" % number, b"00000.txt", 2) if number else data
    return data


def _lying() -> bytes:
    data = bytearray(packed({"a.txt": TEXT * 1000, "b.txt": TEXT}))
    at = data.index(b"PK\x01\x02")
    data[at + 20 : at + 28] = b"\xff\xff\xff\x7f" * 2
    return bytes(data)


def _locked() -> bytes:
    data = bytearray(packed({"a.txt": TEXT}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)
