"""Workbooks of Excel (XLSX, XLSM, XLSB, XLS): a place a sheet, and one a row, which names its columns."""

from __future__ import annotations

import datetime
import re
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from fidkit.passages.load.document import Document
from fidkit.passages.load.formulas import Formulas, without_result
from fidkit.passages.load.grid import GridRow, Sheet, number_text, write_workbook
from fidkit.passages.load.package import ANEW, MB, OLE, WITHOUT_PASSWORD, Package, core_facts, reading
from fidkit.passages.load.percent import Percents, column_number, percent_styles, percent_text, sheets_of
from fidkit.passages.load.prose import flat
from fidkit.passages.load.record import UnreadableFile
from fidkit.wording import counted

if TYPE_CHECKING:
    from python_calamine import CalamineSheet

_WHAT = "a workbook"
MOST_CELLS = 20_000_000
"""Cells, empty ones counted, between the first and the last one of a sheet: they take 32 bytes each."""

# Without what stands before: patterns that begin with fixed letters are searched five times as fast.
_CELL = re.compile(rb"""r=["']([A-Z]{1,3})([0-9]{1,7})["']""")
_FAULT = re.compile(rb"""t=["']e["']""")
_OVERLAP = 64


def read_workbook(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A workbook of Excel. Places: `sheet`, labelled by name, and `row` in it, labelled by number.

    Numbers, dates and truth values are written as a person would: 1000000, 25.6%, 2024-05-01, TRUE. Of
    formulas, there are the values that the program left in the file; `notes` says where it left none. Hidden
    sheets are read, which `notes` says.

    Args:
        stream: seekable.
        name: of the file.

    Raises:
        UnreadableFile: it isn't one, is broken, needs a password, or has a sheet of too many cells.
    """
    with reading(name, _WHAT):
        title, facts, notes, percents = _looked_through(stream, name)
        stream.seek(0)
        document = write_workbook(_calamine(stream, name, percents), title, facts, notes)
    yield document


def _looked_through(
    stream: BinaryIO, name: str
) -> tuple[str, dict[str, str], list[str], dict[int, Percents]]:
    """What a workbook says of itself, once it is sure that reading it won't fill the memory.

    The library makes a grid of all cells between the first and the last one, and unpacks what there is. It
    doesn't say how numbers are shown, so the cells in percent are looked for too: last, by the sheet's
    number.
    """
    if stream.read(2) == OLE[:2]:
        _refuse_broken_compound(stream, name)
        return "", {}, [], {}
    package = Package(stream, name, _WHAT, ".xls")
    title, facts = core_facts(package)
    faults, styles, sheets = 0, percent_styles(package), sheets_of(package)
    percents = {member: Percents(styles) for _, member in sheets} if styles else {}
    formulas = {member: Formulas() for _, member in sheets}
    for member in sorted(package.names):
        if not member.startswith("xl/media/"):
            faults += _measured(package, member, percents.get(member), formulas.get(member))
    said = counted(faults, "cell holds an error and is", "cells hold an error and are")
    notes = [f"{said} left out, such as a division by zero"] if faults else []
    notes += without_result([(flat(label), formulas[member].without) for label, member in sheets])
    numbered = enumerate(sheets) if percents else ()
    return title, facts, notes, {at: percents[member] for at, (_, member) in numbered}


def _refuse_broken_compound(stream: BinaryIO, name: str) -> None:
    """Looks at what a compound file says of the number of its parts.

    The library takes as much memory as that says, and ends the process where there isn't as much. A count of
    strings that is as wrong, further in, does so still: files of strangers are read in a process apart.
    """
    size = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(76).ljust(76, b"\0")
    sector, small = struct.unpack_from("<HH", head, 30)
    counts = [struct.unpack_from("<I", head, at)[0] for at in (40, 44, 64, 72)]
    if sector not in (9, 12) or small != 6 or any(count << sector > size for count in counts):
        raise UnreadableFile(name, f"expected {_WHAT}, but its directory is broken", ANEW)


def _measured(package: Package, member: str, percents: Percents | None, formulas: Formulas | None) -> int:
    """Counts the cells that hold an error in a sheet, and notes those that show percent or lack a result.

    Raises:
        UnreadableFile: it has too many cells.
    """
    columns: set[bytes] = set()
    rows: set[int] = set()
    faults, tail = 0, b""
    with package.opened(member) as packed:
        while part := packed.read():
            if not member.endswith(".xml"):
                continue
            # What lies across two parts is found in the second one; counted twice it does no harm there.
            found = _CELL.findall(tail + part)
            if percents:
                percents.look(tail + part)
            if formulas:
                formulas.look(part)
            columns.update(column for column, _ in found)
            numbers = {int(row) for _, row in found}
            rows |= {min(numbers), max(numbers)} if numbers else set()
            faults += len(_FAULT.findall(part))
            tail = part[-_OVERLAP:]
    if columns:
        places = [column_number(column) for column in columns]
        cells = (max(places) - min(places) + 1) * (max(rows) - min(rows) + 1)
        if cells > MOST_CELLS:
            reason = (
                f"expected at most {MOST_CELLS // MB} million cells in a sheet, got {cells:,} in {member}"
            )
            raise UnreadableFile(
                package.name, reason, "move what stands far away closer, or leave the file out"
            )
    return faults


def _calamine(stream: BinaryIO, name: str, percents: dict[int, Percents]) -> Iterator[Sheet]:
    from python_calamine import CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

    try:
        book = CalamineWorkbook.from_filelike(stream)
    except PasswordError as error:
        reason = f"expected {_WHAT} that is open, but it needs a password"
        raise UnreadableFile(name, reason, WITHOUT_PASSWORD) from error
    for at, known in enumerate(book.sheets_metadata):
        if known.typ == SheetTypeEnum.WorkSheet:
            sheet = book.get_sheet_by_index(at)
            yield Sheet(known.name, _rows(sheet, percents.get(at)), known.visible != SheetVisibleEnum.Visible)


def _rows(sheet: CalamineSheet, percents: Percents | None) -> Iterator[GridRow]:
    """Rows that aren't empty; where cells are merged, each row has their text."""
    shares = percents.by_column() if percents else {}
    before = 0 if sheet.start is None else sheet.start[1]
    merged = sorted(sheet.merged_cell_ranges or ())
    lasting: dict[
        int, tuple[int, str]
    ] = {}  # by column: the last row that a merged cell covers, and its text
    at = 0
    for index, values in enumerate(sheet.iter_rows()):
        cells = [""] * before + [written(value) for value in values]
        for column, letters in shares.items():
            value = values[column - before] if before <= column < len(cells) else None
            digits = percents.digits(letters, index + 1) if percents else None
            if digits is not None and isinstance(value, int | float) and not isinstance(value, bool):
                cells[column] = percent_text(value, digits)
        own = any(cells)
        wide = []
        for column in [column for column, (last, _) in lasting.items() if index > last]:
            del lasting[column]
        for column, (_, text) in lasting.items():
            cells[column] = cells[column] or text
        while at < len(merged) and merged[at][0][0] <= index:
            (top, left), (bottom, right) = merged[at]
            at += 1
            if top == index and left < len(cells):
                if bottom > top and cells[left]:
                    lasting[left] = bottom, cells[left]
                if right > left:
                    wide.append((left, min(right, len(cells) - 1)))
        if own:
            yield GridRow(index + 1, cells, tuple(wide))


def written(value: Any) -> str:
    """The value of a cell as a person would write it; dates and times as in ISO 8601."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, datetime.datetime):
        midnight = value.time() == datetime.time()
        return value.date().isoformat() if midnight else value.isoformat(" ", "seconds")
    if isinstance(value, datetime.timedelta):
        minutes, seconds = divmod(round(value.total_seconds()), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, datetime.time):
        return value.isoformat("seconds")
    return str(value).strip()
