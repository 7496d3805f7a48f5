"""Hostile files of office programs: bombs of ZIP and XML, cut off, and not what they say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from documents import packed, presentation, unpacked, workbook
from harm.old_workbook import beyond_memory, compound
from harm.packages import MAIN, book, opendocument_sheet, opendocument_text, word

MB = 1_000_000
_LAUGHS = "".join(
    f'<!ENTITY {name} "{f"&{inner};" * 10}">' for inner, name in zip("abcdefghi", "bcdefghij", strict=True)
)
_TYPES = {
    "laughs": f'<!DOCTYPE x [<!ENTITY a "ha">{_LAUGHS}]>',
    "quadratic": f'<!DOCTYPE x [<!ENTITY j "{"ha" * 50_000}">]>',
    "external": '<!DOCTYPE x [<!ENTITY j SYSTEM "file:///etc/passwd">]>',
    "parameter": '<!DOCTYPE x [<!ENTITY % j SYSTEM "file:///etc/passwd"> %j;]>',
}
Sheet = tuple[str, list[list[Any]], list[str]]
"""A name, rows, and what is merged."""
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")


def good() -> dict[str, bytes]:
    """A file of each kind as it should be."""
    ships: Sheet = ("Ships", [["Ship", "Masts"], ["Aurora", 3]], [])
    return {
        "docx": word(), "odt": opendocument_text(), "ods": opendocument_sheet(), "epub": book(),
        "pptx": presentation(), "xlsx": workbook(ships),
    }  # fmt: skip


def files() -> Iterator[tuple[str, bytes]]:
    """Each kind, harmed in each way."""
    for kind, data in good().items():
        members, main = unpacked(data), MAIN[kind]
        body = members[main]
        yield f"cut off.{kind}", data[: len(data) // 2]
        yield f"without its last bytes.{kind}", data[:-30]
        yield f"without its main part.{kind}", packed({n: d for n, d in members.items() if n != main})
        yield f"unpacks to 150 MB.{kind}", packed({**members, main: body + b" " * 150 * MB})
        yield f"encrypted.{kind}", _OLE + bytes(600) + "EncryptedPackage".encode("utf-16-le") + bytes(9000)
        yield f"elements in one another.{kind}", packed({**members, main: _deep(body)})
        for way, doctype in _TYPES.items():
            text = "&j;" * (2_000 if way == "quadratic" else 1)
            yield f"entities, {way}.{kind}", packed({**members, main: _typed(body, doctype, text)})
    yield from _workbooks()


def _deep(body: bytes, times: int = 200_000) -> bytes:
    """The part with elements in one another behind its root's start."""
    at = body.index(b">", body.index(b"?>") + 2 if b"?>" in body else 0) + 1
    return body[:at] + b"<a>" * times + b"</a>" * times + body[at:]


def _typed(body: bytes, doctype: str, text: str) -> bytes:
    head, _, rest = body.rpartition(b"?>") if b"?>" in body[:200] else (b'<?xml version="1.0"', b"", body)
    return head + b"?>" + doctype.encode() + rest.replace(b"Aurora", b"Aurora " + text.encode())


def _workbooks() -> Iterator[tuple[str, bytes]]:
    ships: Sheet = ("A", [["Ship", "Masts"], ["Aurora", 3]], [])
    members = unpacked(workbook(ships))
    sheet = "xl/worksheets/sheet1.xml"
    formula: Sheet = (
        "A",
        [["Ship", "Masts"], ['=HYPERLINK("http://x.org","Aurora")', "=cmd|'/c calc'!A1"]],
        [],
    )
    yield "formulas.xlsx", workbook(formula)
    far = members[sheet].replace(b'r="B2"', b'r="XFD1048576"')
    yield "a cell at the far corner.xlsx", packed({**members, sheet: far})
    wide = members[sheet].replace(b"</sheetData>", b'</sheetData><mergeCells><mergeCell ref="A1:XFD1048576"/>'
                                  b"</mergeCells>")  # fmt: skip
    yield "merged to the far corner.xlsx", packed({**members, sheet: wide})
    strings = b'<?xml version="1.0"?><sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
    strings += b'count="4000000000" uniqueCount="4000000000"/>'
    yield "strings without end.xlsx", packed({**members, "xl/sharedStrings.xml": strings})
    rows = b"".join(b'<row r="%d"><c r="A%d"><v>1</v></c></row>' % (n, n) for n in range(3, 900_000))
    yield "900,000 rows.xlsx", packed({**members, sheet: members[sheet].replace(b"</sheetData>", rows +
                                       b"</sheetData>")})  # fmt: skip
    yield "loops of relations.xlsx", packed({
        **members, "xl/_rels/workbook.xml.rels": members["xl/_rels/workbook.xml.rels"].replace(
            b"worksheets/sheet1.xml", b"workbook.xml"),
    })  # fmt: skip
    yield "noise of an old kind.xls", _OLE + bytes(504) + b"\xff" * 40_000
    yield "two cells far apart.xls", compound(beyond_memory())
    yield "a directory in a circle.xls", compound(beyond_memory(), circle=True)
